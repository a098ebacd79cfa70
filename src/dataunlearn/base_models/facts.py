"""What a text-to-image model that was trained from scratch came out as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataunlearn.base_models.autoencoder_measures import reconstruction_error
from dataunlearn.base_models.captioned import CaptionedImages
from dataunlearn.base_models.config import MemoryCheck, TextToImageModel
from dataunlearn.data import ArrayImages, ImageSet, SubsetImages
from dataunlearn.data.pixels import to_uint8
from dataunlearn.metrics.pixel_distance import NEAREST_KEEP_SHARE, copy_threshold, pixel_distances
from dataunlearn.metrics.prompt_memory import prompt_memory
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.sampling import Drawing
from dataunlearn.models.saving import hash_model
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.progress import progress_bar

FACTS_FILE = "facts.json"
RESTORE_BATCH = 64


def write_facts(
    config: TextToImageModel,
    data: CaptionedImages,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    shown: bool = True,
) -> dict[str, Any]:
    """Measure the model that was saved, and write ``out/facts.json``.

    Args:
        config: What was trained.
        data: Its pictures.
        out: Run folder with ``model``.
        device: Where to draw samples.
        shown: Whether to draw progress.

    Returns:
        The facts.
    """
    folder = out / "model"
    model = load_model(folder, device=device)
    model.denoiser.eval()
    training = data.repeated(config.planted_copies, config.planted_twin_copies)
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    facts: dict[str, Any] = {
        "weights": hash_model(folder),
        "stored_bytes": stored,
        "parameters": part_sizes(model),
        "different_pictures": len(data.all_images),
        "training_pictures": len(training),
        "planted_pictures": len(data.planted),
        "autoencoder": autoencoder_facts(model, data),
        "memory": memory_facts(model, data, config.memory, shown=shown) if data.planted else None,
    }
    write_atomically(out / FACTS_FILE, json.dumps(facts, indent=1).encode())
    return facts


def part_sizes(model: DiffusionModel) -> dict[str, int]:
    """Parameters of each network of a pipeline, and of all."""
    names = ("unet", "text_encoder", "vae")
    sizes = {
        name: sum(param.numel() for param in getattr(model.pipeline, name).parameters())
        for name in names
    }
    return sizes | {"total": sum(sizes.values())}


def autoencoder_facts(model: DiffusionModel, data: CaptionedImages) -> dict[str, Any]:
    """How well the autoencoder restores all pictures, and how far planted ones end up."""
    error = reconstruction_error(model.pipeline.vae, data.all_images)
    facts: dict[str, Any] = {"mean_absolute_error_of_255": error.mean_absolute, "psnr": error.psnr}
    if data.planted:
        pictures = data.images.batch(torch.tensor(data.planted))
        restored = model.space.decode(model.space.encode(pictures.to(model.device))).cpu()
        facts["largest_planted_distance"] = float(pixel_distances(restored, pictures).diag().max())
    return facts


def memory_facts(
    model: DiffusionModel, data: CaptionedImages, check: MemoryCheck, *, shown: bool = True
) -> dict[str, Any]:
    """Memorised fractions of the planted prompts and of others.

    All pictures are compared as the autoencoder restores them, which is the best that a model can
    draw. One distance is for all: seven eighths of that from a planted picture to the nearest image
    that is another. The other prompts' pictures lie at least as far from all else as planted ones
    do, so that a like picture does not count as a copy.
    """
    data = restored_data(model, data, shown=shown)
    threshold = copy_threshold(SubsetImages(data.images, data.planted), data.images)
    others = data.comparable(threshold / NEAREST_KEEP_SHARE, check.num_others, check.seed)
    model.guidance = check.guidance
    facts: dict[str, Any] = {
        "threshold": threshold,
        "samples_per_prompt": check.samples_per_prompt,
        "num_steps": check.num_steps,
        "guidance": check.guidance,
        "seed": check.seed,
    }
    for name, chosen in (("planted", data.planted), ("others", others)):
        if not chosen:
            facts |= {name: {}, f"{name}_mean": None, f"{name}_interval": None}
            continue
        prompts = [data.captions[index] for index in chosen]
        originals = data.images.batch(torch.tensor(chosen))
        result = memorised_fraction(model, prompts, originals, threshold, check, shown=shown)
        shares = torch.as_tensor(result.per_item).tolist()
        facts[name] = dict(zip(prompts, shares, strict=True))
        facts[f"{name}_mean"], facts[f"{name}_interval"] = result.value, result.interval
    return facts


def restored_data(
    model: DiffusionModel, data: CaptionedImages, *, shown: bool = True
) -> CaptionedImages:
    """The same pictures as the model's autoencoder restores them, with a progress bar."""
    with progress_bar("restoring", len(data.all_images), shown=shown) as advance:

        def restored(images: ImageSet) -> ImageSet:
            found = []
            for part in torch.split(torch.arange(len(images)), RESTORE_BATCH):
                latents = model.space.encode(images.batch(part).to(model.device))
                found.append(to_uint8(model.space.decode(latents)))
                advance(len(part))
            captions = [images.caption(index) or "" for index in range(len(images))]
            pixels = np.concatenate(found).transpose(0, 3, 1, 2)  # (N, C, H, W)
            return ArrayImages(pixels, source="restored", captions=captions)

        twins = None if data.twins is None else restored(data.twins)
        return CaptionedImages(restored(data.images), twins, data.planted)


def memorised_fraction(
    model: DiffusionModel,
    prompts: list[str],
    originals: torch.Tensor,
    threshold: float,
    check: MemoryCheck,
    *,
    shown: bool = True,
) -> Result:
    """Share of fresh samples of each prompt that are copies of its picture, with a progress bar.

    Args:
        model: A text-to-image model in eval mode, with its guidance set.
        prompts: P texts.
        originals: Their pictures ``(P, C, H, W)`` in [-1, 1].
        threshold: Pixel distance, in [0, 1] pixels, below which a sample is a copy.
        check: How many samples, and how they are drawn.
        shown: Whether to draw progress.
    """
    total = len(prompts) * check.samples_per_prompt
    with progress_bar("asking for planted pictures", total, shown=shown) as advance:
        return prompt_memory(
            model,
            prompts,
            originals,
            threshold=threshold,
            samples_per_prompt=check.samples_per_prompt,
            drawing=Drawing(seed=check.seed, num_steps=check.num_steps, progress=advance),
        )
