"""Tensors on disk with a checksum: safetensors that say what they should hold."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.sealed import SEAL, DamagedFileError, DamagedFileWarning

_LENGTH_BYTES = 8


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors for :func:`read_tensors`, whole or not at all."""
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    write_atomically(file, save(plain, {SEAL: _digest(*plain.values())}))


def write_samples(file: Path, samples: Tensor) -> None:
    """Keep samples ``(N, ...)`` for :func:`kept_samples`, whole or not at all."""
    write_tensors(file, {"samples": samples})


def kept_samples(file: Path) -> Tensor | None:
    """Samples ``(N, ...)`` of an earlier call; None if there are none, or, with a warning, damaged.

    Samples that are not finite are left to whoever reads them.
    """
    if not file.is_file():
        return None
    try:
        return read_tensors(file)["samples"]
    except (DamagedFileError, KeyError):
        words = f"{file} is damaged: the samples are drawn anew."
        warnings.warn(words, DamagedFileWarning, stacklevel=2)
        return None


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, compared with its checksum if it has one.

    Raises:
        DamagedFileError: If it cannot be read, or its checksum is another.
    """
    try:
        content = file.read_bytes()
        found: dict[str, Tensor] = load(content)
        length = int.from_bytes(content[:_LENGTH_BYTES], "little")
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except (OSError, SafetensorError, ValueError) as error:
        raise DamagedFileError(f"{file} cannot be read: {error}") from error
    seal = header.get("__metadata__", {}).get(SEAL)
    if seal is not None and seal != _digest(*(found[name] for name in sorted(found))):
        raise DamagedFileError(f"{file} is damaged: its checksum is another")
    return found


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
