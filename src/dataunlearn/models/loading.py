"""Load a model from a folder or hub id, and say how it is sampled."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from dataunlearn.models.base import DiffusionModel, set_guidance
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.runtime.checks import require


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


def check_device(device: str) -> None:
    """Refuse a device that is not there.

    Raises:
        ValueError: With those that are.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    usable = ", ".join(name for name, there in available.items() if there)
    require(available.get(device, False), f"no device {device!r} here; there is {usable}")


def best_device() -> str:
    """The name of the best device there is: cuda, mps, or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@dataclass(frozen=True)
class ModelSource:
    """A model and how it is sampled.

    Args:
        model: Pipeline folder, bare unet folder, or hub id.
        scheduler: Folder with the scheduler's config, for a bare unet folder.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.
        guidance: Scale of classifier-free guidance; None takes the family's usual.
        device: cpu, cuda or mps; None takes the best there is.
    """

    model: str
    scheduler: str | None = None
    image_size: int | None = None
    guidance: float | None = None
    device: Literal["cpu", "cuda", "mps"] | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.guidance is None or self.guidance >= 1, "guidance must be at least 1")

    def open(self, device: str | torch.device) -> DiffusionModel:
        """Load the model in eval mode.

        Raises:
            ValueError: If it cannot be loaded, or lacks what a setting is about.
        """
        found = load_model(
            self.model, scheduler=self.scheduler, image_size=self.image_size, device=device
        )
        found.denoiser.eval()
        set_guidance(found, self.guidance)
        return found

    def like(self, model: str) -> ModelSource:
        """Another model, sampled in the same way."""
        return replace(self, model=model)
