"""Load a model from a folder or hub id, and write it back as an ordinary pipeline folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.families import wrap_pipeline


def load_model(
    source: str | Path,
    *,
    scheduler: str | Path | None = None,
    image_size: int | None = None,
    device: str | torch.device = "cpu",
) -> DiffusionModel:
    """Load a pipeline folder, a bare ``unet``/``unet_ema`` folder, or a hub id.

    Weights come from safetensors, or where a repository has none through diffusers' weights-only
    loading. Float16 weights are widened to float32, in which unlearning runs.

    Args:
        source: Folder or hub id ("owner/name"; the only case that touches the network).
        scheduler: Folder with ``scheduler_config.json`` (or a pipeline folder with a ``scheduler``
            folder), for a bare ``unet`` folder that has no such neighbour.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.
        device: Where to put the model.

    Raises:
        ValueError: If there is no such model, it is no pipeline, or its class is unsupported.
    """
    path = Path(source)
    if not path.exists():
        pipeline = _from_hub(str(source))
    elif (path / "model_index.json").is_file():
        if scheduler is not None:
            raise ValueError(
                f"{source} is a pipeline with a scheduler of its own: drop --scheduler"
            )
        pipeline = _from_pretrained(str(source))
    elif (path / "config.json").is_file():
        pipeline = _from_bare_unet(path, scheduler)
    else:
        raise ValueError(
            f"{source} is no diffusers model: it has neither model_index.json (a pipeline folder) "
            "nor config.json (a bare unet folder)"
        )
    model = wrap_pipeline(pipeline, str(source), image_size)
    model.denoiser.float()
    return model.to(device)


def _from_pretrained(source: str, **kwargs: Any) -> Any:
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(source, **kwargs)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"cannot load the pipeline {source}: {error}") from error


def _from_hub(source: str) -> Any:
    if source.count("/") != 1 or source.startswith(("/", ".", "~")):
        raise ValueError(f"{source} does not exist (a hub id looks like 'owner/name')")
    try:
        return _from_pretrained(source)
    except ValueError as error:
        reason = str(error.__cause__).partition("\n")[0].partition(" (")[0]  # the rest is advice
        raise ValueError(
            f"there is no folder {source}, and no such model came from the hub: {reason}\n"
            "Without a network, "
            "copy the repository's model_index.json, unet/ (config.json and "
            "diffusion_pytorch_model.safetensors) and scheduler/ (scheduler_config.json) into a "
            "folder and give that folder"
        ) from error


def _from_bare_unet(path: Path, scheduler: str | Path | None) -> Any:
    import diffusers

    class_name = json.loads((path / "config.json").read_text()).get("_class_name")
    if class_name != "UNet2DModel":
        raise ValueError(f"{path} holds a {class_name}; a bare denoiser must be a UNet2DModel")
    folder = _scheduler_folder(path, scheduler)
    config = json.loads((folder / "scheduler_config.json").read_text())
    scheduler_class = getattr(diffusers, config.get("_class_name", "DDPMScheduler"), None)
    if scheduler_class is None:
        raise ValueError(f"{folder}: diffusers has no scheduler class {config['_class_name']}")
    try:
        unet = diffusers.UNet2DModel.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot load the unet {path}: {error}") from error
    return diffusers.DDPMPipeline(unet, scheduler_class.from_config(config))


def _scheduler_folder(path: Path, scheduler: str | Path | None) -> Path:
    """The folder with scheduler_config.json: the given one, or the neighbour of a unet folder."""
    candidates = [path.resolve().parent / "scheduler"]
    if scheduler is not None:
        candidates = [Path(scheduler), Path(scheduler) / "scheduler"]
    for candidate in candidates:
        if (candidate / "scheduler_config.json").is_file():
            return candidate
    raise ValueError(
        f"{path} is a bare unet: give --scheduler FOLDER with its scheduler_config.json "
        f"(looked in {', '.join(map(str, candidates))})"
    )


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    networks = [model.denoiser]
    if whole:
        parts = model.pipeline.components.values()
        networks += [part for part in parts if isinstance(part, nn.Module)]
    try:
        with stored_as(networks, dtype):
            model.pipeline.save_pretrained(str(temporary), safe_serialization=True)
        forget_origin(temporary)
        if whole:
            load_wide(temporary)
        make_readable(temporary)
        replace_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def make_readable(folder: Path) -> None:
    """Let others read the folder: temporary folders and safetensors files are private when made."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def forget_origin(folder: Path) -> None:
    """Drop the path that a model was loaded from out of its config files: it concerns nobody."""
    for path in folder.rglob("*.json"):
        config = json.loads(path.read_text())
        if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def replace_folder(temporary: Path, folder: Path) -> None:
    """Move a finished folder into place, over an old one if there is one."""
    if not folder.exists():
        os.replace(temporary, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    os.replace(folder, old / "folder")
    try:
        os.replace(temporary, folder)
    except BaseException:
        os.replace(old / "folder", folder)
        old.rmdir()
        raise
    shutil.rmtree(old)


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

    An adapter that is not merged is left out.
    """
    digest = hashlib.sha256()
    state = model.denoiser.state_dict()
    own = {
        name.replace(".base_layer.", "."): v for name, v in state.items() if ".lora_" not in name
    }
    for name, value in sorted(own.items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
