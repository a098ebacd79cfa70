"""Write a model back as an ordinary pipeline folder, and hash its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.lora import ADAPTER
from dataunlearn.runtime.files import make_readable, replace_folder, temporary_folder

OWN_ADAPTER = f".{ADAPTER}."


def save_model(
    model: DiffusionModel,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    *,
    whole: bool = False,
) -> None:
    """Write the pipeline as a folder that ``DiffusionPipeline.from_pretrained`` loads.

    It is written under a temporary name beside ``folder`` and renamed, so a full disk or an
    interrupt leaves either the old folder or the new one.

    Args:
        model: What to save.
        folder: Target; replaced if it exists.
        dtype: Type of the stored weights; the model itself is left as it is.
        whole: Store all of the pipeline's networks in this type, not the denoiser alone. All of
            them load as float32, where no other type is asked for.
    """
    networks = [model.denoiser]
    if whole:
        parts = model.pipeline.components.values()
        networks += [part for part in parts if isinstance(part, nn.Module)]
    with temporary_folder(folder) as temporary:
        with stored_as(networks, dtype):
            model.pipeline.save_pretrained(str(temporary), safe_serialization=True)
        forget_origin(temporary)
        name_known_class(model.pipeline, temporary)
        if whole:
            load_wide(temporary)
        make_readable(temporary)
        replace_folder(temporary, folder)


@contextmanager
def stored_as(networks: Sequence[nn.Module], dtype: torch.dtype) -> Iterator[None]:
    """Networks in another type for a while, then with their own weights again, unrounded."""
    kept = []
    for network in networks:
        original = next(network.parameters()).dtype
        if original != dtype:
            weights = {name: value.clone() for name, value in network.state_dict().items()}
            kept.append((network, original, weights))
    try:
        for network, _, _ in kept:
            nn.Module.to(network, dtype)  # diffusers' own warns of layers that it would rather skip
        yield
    finally:
        for network, original, weights in kept:
            nn.Module.to(network, original)
            network.load_state_dict(weights)


def load_wide(folder: Path) -> None:
    """Name float32 in the configs of text encoders, which load in the type that these name.

    Other networks load as float32 by themselves, and the parts of a pipeline must agree.
    """
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        named = {"dtype", "torch_dtype"} & set(config)
        if named:
            path.write_text(json.dumps(config | dict.fromkeys(named, "float32"), indent=2) + "\n")


def forget_origin(folder: Path) -> None:
    """Drop the path that a model was loaded from out of its config files: it concerns nobody."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text())
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def name_known_class(pipeline: Any, folder: Path) -> None:
    """Name the pipeline class of diffusers that a class of the user's own is derived from."""
    kinds = [kind for kind in type(pipeline).__mro__ if kind.__module__.startswith("diffusers.")]
    path = folder / "model_index.json"
    if kinds[0] is not type(pipeline):
        config = json.loads(path.read_text())
        path.write_text(json.dumps(config | {"_class_name": kinds[0].__name__}, indent=2) + "\n")


def hash_model(folder: Path) -> str:
    """SHA-256 over the names and contents of a model folder's weight files, in name order."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".safetensors", ".bin"):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def hash_weights(model: DiffusionModel) -> str:
    """SHA-256 over the denoiser's parameters in float32, independent of how they are stored.

    The adapter that unlearning trains is left out while it is not merged.
    """
    digest = hashlib.sha256()
    state = model.denoiser.state_dict()
    own = {
        name.replace(".base_layer.", "."): v for name, v in state.items() if OWN_ADAPTER not in name
    }
    for name, value in sorted(own.items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
