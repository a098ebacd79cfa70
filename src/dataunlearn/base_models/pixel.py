"""Train a base model from scratch, with or without the images that are to be forgotten later."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from dataunlearn.base_models.config import BaseModel
from dataunlearn.combine import Fixed
from dataunlearn.data import ConcatImages, ImageSet, SubsetImages, open_images
from dataunlearn.data.content import describe_images
from dataunlearn.data.pixels import to_uint8
from dataunlearn.models import DiffusionModel, save_model
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.objectives import NaiveDeletion
from dataunlearn.report.grids import save_grid
from dataunlearn.runtime.run_folder import check_run_dir, only_main, run_folder
from dataunlearn.runtime.seeding import mix_seed
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Callback, Trainer

NUM_GRID_SAMPLES = 64


def build_model(config: BaseModel) -> DiffusionModel:
    """A freshly initialised model; the run's seed names the initial weights."""
    with torch.random.fork_rng():
        torch.manual_seed(mix_seed(config.training.seed))
        unet = UNet2DModel(**config.unet)
    return wrap_pipeline(DDPMPipeline(unet, DDPMScheduler(**config.scheduler)))


def training_images(config: BaseModel, shape: tuple[int, int, int]) -> ImageSet:
    """The training set: images, planted copies, less what is to be left out.

    Raises:
        ValueError: If an image to leave out is not in the training set, or nothing is left.
    """
    images = open_images(config.images, shape, role="training", captions=False)
    if config.planted is not None:
        planted = open_images(config.planted, shape, role="planted", captions=False)
        repeated = torch.arange(len(planted)).repeat_interleave(config.planted_copies)
        images = ConcatImages([images, SubsetImages(planted, repeated)])
    if config.without is None:
        return images
    unwanted = set(open_images(config.without, shape, role="without", captions=False).digests())
    digests = images.digests()
    missing = unwanted - set(digests)
    if missing:
        raise ValueError(
            f"{len(missing)} of the images in {config.without} are not in the training set, so "
            "leaving them out changes nothing: check the file"
        )
    kept = [index for index, digest in enumerate(digests) if digest not in unwanted]
    if not kept:
        raise ValueError("no training image is left: --without names them all")
    return SubsetImages(images, kept)


def train_base(
    config: BaseModel,
    out: Path,
    *,
    accelerator: Accelerator | None = None,
    overwrite: bool = False,
    shown: bool = True,
) -> Path:
    """Train, with sample grids on the way, and save the averaged weights as a pipeline.

    An unfinished run in ``out`` with the same settings is resumed.

    Args:
        config: What to train.
        out: Run folder; the pipeline goes to ``out/model``.
        accelerator: Processes and device.
        overwrite: Replace a finished or different run in ``out``.
        shown: Whether to draw progress.

    Returns:
        The pipeline's folder.

    Raises:
        ValueError: On bad data, or if ``out`` holds a finished or different run.
    """
    places = {"images": config.images, "planted": config.planted, "without": config.without}
    check_run_dir(out, overwrite=overwrite, inputs=places)
    model = build_model(config)
    images = training_images(config, model.shape)
    content = {"images": describe_images(images)}
    holding = run_folder(out, config, overwrite=overwrite, content=content, places=tuple(places))
    with only_main(holding, out, accelerator) as run:
        if accelerator is not None:
            model.denoiser.to(accelerator.device)
        trainer = Trainer(
            model,
            [base_phase(model, keep_only_sampler(config, model, images))],
            config.training,
            run_dir=run.folder,
            accelerator=accelerator,
            callbacks=[grid_callback(run.folder, config.sample_every_steps)],
            shown=shown,
        )
        trainer.run()
        trainer.use_average()
        if trainer.is_main:
            save_model(model, run.folder / "model")
            run.finish()
        if accelerator is not None:
            accelerator.wait_for_everyone()  # the pipeline is there when any process returns
    return out / "model"


def keep_only_sampler(config: BaseModel, model: DiffusionModel, images: ImageSet) -> PairSampler:
    """A sampler of training images without a forget side."""
    return PairSampler(
        images,
        None,
        model.process,
        batch_pairs=config.training.batch_pairs,
        seed=config.training.seed,
        space=model.space,
    )


def base_phase(model: DiffusionModel, sampler: PairSampler) -> Phase:
    """Ordinary training on a sampler's pictures, as base models are trained.

    The loss is the mean over dimensions instead of the sum: the clip at norm 1 then acts on
    outliers only.
    """
    mean = Fixed(keep=1 / math.prod(model.shape), forget=0)
    return Phase([StepPart(sampler, NaiveDeletion())], mean)


def grid_callback(out: Path, every_steps: int, prompts: Sequence[str] = ()) -> Callback:
    """A callback that writes ``out/samples/step_*.png`` from the averaged weights.

    Args:
        out: The run's folder.
        every_steps: Steps between grids.
        prompts: What a text-to-image model is asked for, one sample each; else there are 64.
    """
    count = len(prompts) or NUM_GRID_SAMPLES

    def draw(trainer: Trainer, steps_done: int) -> bool:
        if trainer.is_main and steps_done % every_steps == 0:
            with trainer.averaged():
                samples = generate(trainer.model, count, Drawing(seed=0, prompts=prompts))
            save_grid(to_uint8(samples), out / "samples" / f"step_{steps_done:06d}.png")
        return False

    return draw
