"""The difference between two versions of a model, on its own: saved, applied, and taken back.

What is stored of each tensor is which bits of its float32 numbers differ. So applying it gives the
other version exactly, in either direction, and on its own it is noise. Hashes of both versions go
with it, and it is applied to nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dataunlearn.models.base import DiffusionModel, require_comparable
from dataunlearn.models.identity import describe_scheduler, hash_other_networks
from dataunlearn.models.latents import TextSpace
from dataunlearn.models.saving import hash_weights
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.files import write_atomically

SUFFIX = ".safetensors"
_FORMAT = "dataunlearn difference 1"


@dataclass(frozen=True, eq=False)
class Difference:
    """Which bits differ between two versions.

    Attributes:
        before: :func:`hash_weights` of the first one.
        after: Likewise of the second one.
        bits: int32 of a parameter's shape, by its name; parameters that are equal are left out.
    """

    before: str
    after: str
    bits: Mapping[str, Tensor]


def difference_of(before: DiffusionModel, after: DiffusionModel) -> Difference:
    """What turns one version into the other, and back.

    Raises:
        ValueError: If they are no versions of one model, or equal.
    """
    require_comparable(before, after)
    first, second = _floats(before), _floats(after)
    shapes = [{name: value.shape for name, value in side.items()} for side in (first, second)]
    require(
        shapes[0] == shapes[1],
        f"{before.source} and {after.source} are networks of different architectures",
    )
    _require_same_rest(before, after)
    bits = {name: _bits(first[name]) ^ _bits(second[name]) for name in first}
    changed = {name: value for name, value in bits.items() if bool(value.any())}
    require(bool(changed), f"{before.source} and {after.source} have the same weights")
    return Difference(hash_weights(before), hash_weights(after), changed)


def write_difference(difference: Difference, path: Path) -> None:
    """Write it as a safetensors file, whole or not at all.

    Raises:
        ValueError: If the file is there, or its name has another suffix.
    """
    require_new_file(path)
    facts = {"format": _FORMAT, "before": difference.before, "after": difference.after}
    write_atomically(path, save(dict(difference.bits), facts))


def require_new_file(path: Path) -> None:
    """Refuse a name that a difference cannot be written to.

    Raises:
        ValueError: If it has another suffix, or is there.
    """
    require(path.suffix == SUFFIX, f"--out {path}: give a file that ends in {SUFFIX}")
    require(not path.exists(), f"{path} is there already: choose another --out")


def read_difference(path: Path) -> Difference:
    """Read what :func:`write_difference` wrote.

    Raises:
        ValueError: If the file is not there, damaged, or no difference.
    """
    require(path.is_file(), f"{path}: there is no such file")
    try:
        with safe_open(str(path), framework="pt") as file:
            facts = file.metadata() or {}
            require(
                facts.get("format") == _FORMAT and {"before", "after"} <= facts.keys(),
                f"{path} is no difference between two versions: difference save writes one",
            )
            bits = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error})") from error
    return Difference(facts["before"], facts["after"], bits)


def apply_difference(model: DiffusionModel, difference: Difference, *, back: bool = False) -> None:
    """Turn a model into the other version, in place.

    Args:
        model: The version before; with ``back`` the version after.
        difference: The difference.
        back: Whether the difference is taken back.

    Raises:
        ValueError: If the model is another one, or the difference was altered; the model may be
            changed then, and is not to be used.
    """
    wanted, other = difference.before, difference.after
    if back:
        wanted, other = other, wanted
    found = hash_weights(model)
    if found != wanted:
        side = "after" if back else "before"
        turned = "apply" if back else "take-back"
        hint = f": {turned} is for that" if found == other else ""
        raise ValueError(
            f"{model.source} is not the version {side} the difference"
            f"{', but the other one' if found == other else ''}{hint}"
        )
    state = model.denoiser.state_dict()
    for name, bits in difference.bits.items():
        value = state.get(name)
        fits = value is not None and value.shape == bits.shape and bits.dtype == torch.int32
        require(fits, f"the difference's tensor {name} does not fit {model.source}")
        assert value is not None
        with torch.no_grad():
            value.copy_((_bits(value.float()) ^ bits.to(value.device)).view(torch.float32))
    require(
        hash_weights(model) == other,
        "the difference was altered: what it gives is not the version that it names",
    )


def _floats(model: DiffusionModel) -> dict[str, Tensor]:
    state = model.denoiser.state_dict()
    return {name: value.detach().float().cpu() for name, value in state.items()}


def _bits(value: Tensor) -> Tensor:
    return value.contiguous().view(torch.int32)


def _require_same_rest(before: DiffusionModel, after: DiffusionModel) -> None:
    """Refuse versions that differ in more than the network that is trained."""
    require(
        describe_scheduler(before) == describe_scheduler(after),
        f"{before.source} and {after.source} have different schedulers, which a difference does "
        "not hold",
    )
    if isinstance(before.space, TextSpace):
        require(
            hash_other_networks(before) == hash_other_networks(after),
            f"{before.source} and {after.source} differ in their autoencoder, text encoders or "
            "tokenizers, which a difference does not hold",
        )
