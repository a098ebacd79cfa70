"""Load a model from a folder or hub id, and say how it is sampled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import HfApi

from dataunlearn.models.base import DiffusionModel, set_guidance
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.folder import (
    known_class,
    open_part,
    open_pipeline,
    read_config,
)
from dataunlearn.runtime.checks import in_one_line, require
from dataunlearn.runtime.home import with_home
from dataunlearn.runtime.hub import no_answer, require_no_path


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
    source, scheduler = with_home(str(source)), with_home(scheduler)
    path = Path(source)
    if not path.exists():
        path = _from_hub(str(source))
    if (path / "model_index.json").is_file():
        if scheduler is not None:
            raise ValueError(
                f"{source} is a pipeline with a scheduler of its own: drop --scheduler"
            )
        pipeline = open_pipeline(path)
    elif (path / "config.json").is_file():
        pipeline = _from_bare_unet(path, scheduler)
    else:
        raise ValueError(what_it_is(path))
    return wrap_pipeline(pipeline, str(source), image_size).to(device)


def what_it_is(path: Path) -> str:
    """In words, what is needed where a path holds no diffusers model."""
    to_convert = (
        "diffusers turns it into one: StableDiffusionPipeline.from_single_file(FILE)"
        ".save_pretrained(FOLDER), or the pipeline class of its family"
    )
    if path.is_file():
        return f"{path} is a single file, and a pipeline folder is needed; {to_convert}"
    held = {each.name for each in path.iterdir()}
    if {"pytorch_lora_weights.safetensors", "adapter_config.json"} & held:
        return (
            f"{path} is a LoRA, and not the model that it adapts: load that model with diffusers, "
            "load_lora_weights, fuse_lora, unload_lora_weights, save_pretrained(FOLDER), and give "
            "the folder"
        )
    single = sorted(name for name in held if name.endswith((".safetensors", ".ckpt")))
    if single:
        return (
            f"{path} holds weights ({single[0]}) and neither model_index.json nor config.json; if "
            f"it is a checkpoint of one file, {to_convert}"
        )
    return (
        f"{path} is no diffusers model: it has neither model_index.json (a pipeline folder) "
        "nor config.json (a bare unet folder)"
    )


def _from_hub(source: str) -> Path:
    """The folder of a hub id: what the hub has, asked once, or what was fetched earlier."""
    if source.count("/") != 1 or source.startswith(("/", ".", "~")):
        raise ValueError(f"{source} does not exist (a hub id looks like 'owner/name')")
    require_no_path(source)
    from diffusers import DiffusionPipeline

    reason = no_answer(HfApi().model_info, source)
    try:
        return Path(DiffusionPipeline.download(source, local_files_only=reason is not None))
    except Exception as error:
        told = reason or in_one_line(error)
        raise ValueError(
            f"there is no folder {source}, and no such model came from the hub: {told}\n"
            "Without a network, "
            "copy the repository's model_index.json, unet/ (config.json and "
            "diffusion_pytorch_model.safetensors) and scheduler/ (scheduler_config.json) into a "
            "folder and give that folder"
        ) from error


def _from_bare_unet(path: Path, scheduler: str | Path | None) -> Any:
    import diffusers

    class_name = read_config(path / "config.json").get("_class_name")
    if class_name == "UNet2DConditionModel":
        raise ValueError(
            f"{path} is the unet of a text-to-image model alone: give the whole pipeline's folder, "
            "with its vae, text encoder, tokenizer, scheduler and model_index.json"
        )
    if class_name != "UNet2DModel":
        raise ValueError(f"{path} holds a {class_name}; a bare denoiser must be a UNet2DModel")
    folder = _scheduler_folder(path, scheduler)
    config = read_config(folder / "scheduler_config.json")
    named = str(config.get("_class_name", "DDPMScheduler"))
    kind = known_class("diffusers", named, f"{folder}: the scheduler")
    unet = open_part(path.resolve(), path.name, "diffusers", "UNet2DModel")
    try:
        return diffusers.DDPMPipeline(unet, kind.from_config(config))
    except Exception as error:
        raise ValueError(f"{folder}: cannot make a {named}: {in_one_line(error)}") from error


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

    Args:
        device: cpu, cuda or mps; one of several GPUs by its number, as in cuda:1.

    Raises:
        ValueError: With those that are.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    usable = ["cpu", *(["cuda", *(f"cuda:{index}" for index in range(count))] if count else [])]
    usable += ["mps"] if torch.backends.mps.is_available() else []
    require(device in usable, f"no device {device!r} here; there is {', '.join(usable)}")


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
        size = self.image_size
        require(size is None or size >= 1, f"image_size must be at least 1, not {size}")

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
