"""Train a text-to-image model from scratch: tokenizer, autoencoder, then unet and text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from dataunlearn.base_models.autoencoder import train_autoencoder
from dataunlearn.base_models.captioned import CaptionedImages, open_captioned
from dataunlearn.base_models.config import TextToImageModel
from dataunlearn.base_models.facts import write_facts
from dataunlearn.base_models.pixel import base_phase, grid_callback
from dataunlearn.base_models.tokenizer import train_tokenizer
from dataunlearn.base_models.trained_prompts import with_trained_prompts
from dataunlearn.data.content import describe_images
from dataunlearn.models import DiffusionModel, save_model
from dataunlearn.runtime.run_folder import check_run_dir, only_main, run_folder
from dataunlearn.runtime.seeding import mix_seed
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.trainer import Trainer

NUM_GRID_SAMPLES = 32
PLACES = ("images", "captions", "twins", "planted", "autoencoder_dir")


def train_text_to_image(
    config: TextToImageModel,
    out: Path,
    *,
    accelerator: Accelerator | None = None,
    overwrite: bool = False,
    shown: bool = True,
) -> Path:
    """Train all parts, save them as a ``StableDiffusionPipeline``, and ask it what it memorised.

    An unfinished run in ``out`` with the same settings is resumed, in whichever part it is.

    Args:
        config: What to train.
        out: Run folder: ``model`` (float16), ``facts.json``, sample grids, logs.
        accelerator: Processes and device.
        overwrite: Replace a finished or different run in ``out``, its autoencoder included.
        shown: Whether to draw progress.

    Returns:
        The pipeline's folder.

    Raises:
        ValueError: On bad data, or if ``out`` holds a finished or different run.
        InterruptedRunError: After Ctrl-C or a termination signal, with the state saved.
    """
    places = {name: getattr(config, name) for name in PLACES if name != "autoencoder_dir"}
    check_run_dir(out, overwrite=overwrite, inputs=places)
    data = open_captioned(config)
    is_main = accelerator is None or accelerator.is_main_process
    shown = shown and is_main
    content = {"images": describe_images(data.all_images), "planted": data.planted}
    holding = run_folder(out, config, overwrite=overwrite, content=content, places=PLACES)
    with only_main(holding, out, accelerator) as run:
        vae = get_autoencoder(config, data, run.folder, accelerator, shown=shown)
        model = build_text_to_image(config, vae, data.captions)
        if accelerator is not None:
            model.to(accelerator.device)
        trainer = text_to_image_trainer(config, model, data, run.folder, accelerator, shown=shown)
        trainer.run()
        trainer.use_average()
        if is_main:
            save_model(model, run.folder / "model", torch.float16, whole=True)
            write_facts(config, data, run.folder, device=model.device, shown=shown)
            run.finish()
        if accelerator is not None:
            accelerator.wait_for_everyone()  # the pipeline is there when any process returns
    return out / "model"


def get_autoencoder(
    config: TextToImageModel,
    data: CaptionedImages,
    out: Path,
    accelerator: Accelerator | None = None,
    *,
    shown: bool = True,
) -> AutoencoderKL:
    """The trained autoencoder from disk, trained by the main process if it is not there."""
    folder = Path(config.autoencoder_dir or out / "autoencoder")
    if accelerator is None or accelerator.is_main_process:
        device = "cpu" if accelerator is None else accelerator.device
        train_autoencoder(config.autoencoder, data.all_images, folder, device=device, shown=shown)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    return train_autoencoder(config.autoencoder, data.all_images, folder, shown=shown)


def build_text_to_image(
    config: TextToImageModel, vae: AutoencoderKL, captions: Sequence[str]
) -> DiffusionModel:
    """A model whose unet and text encoder are freshly initialised, to be trained together.

    Args:
        config: What to build; the training seed names the initial weights.
        vae: The trained autoencoder.
        captions: What the tokenizer is trained on.
    """
    tokenizer = train_tokenizer(
        captions, vocab_size=config.vocab_size, model_max_length=config.max_length
    )
    text_config = CLIPTextConfig(
        **config.text_encoder,
        vocab_size=len(tokenizer),
        max_position_embeddings=config.max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(mix_seed(config.training.seed))
        text_encoder = CLIPTextModel(text_config)
        unet = UNet2DConditionModel(**config.unet)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**config.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return with_trained_prompts(pipeline)


def text_to_image_trainer(
    config: TextToImageModel,
    model: DiffusionModel,
    data: CaptionedImages,
    out: Path,
    accelerator: Accelerator | None = None,
    *,
    shown: bool = True,
) -> Trainer:
    """The trainer of the unet and the text encoder."""
    sampler = PairSampler(
        data.repeated(config.planted_copies, config.planted_twin_copies),
        None,
        model.process,
        batch_pairs=config.training.batch_pairs,
        seed=config.training.seed,
        space=model.space,
        prompt_dropout=config.prompt_dropout,
    )
    return Trainer(
        model,
        [base_phase(model, sampler)],
        config.training,
        run_dir=out,
        accelerator=accelerator,
        callbacks=[grid_callback(out, config.sample_every_steps, grid_prompts(data))],
        shown=shown,
    )


def grid_prompts(data: CaptionedImages) -> list[str]:
    """Captions for a sample grid: planted ones and others in turn, spread over all there are."""
    captions = data.captions
    planted = [captions[index] for index in data.planted]
    others = sorted(set(captions) - set(planted))
    others = others[:: max(1, len(others) // NUM_GRID_SAMPLES)]
    if not planted or not others:
        return (planted or others)[:NUM_GRID_SAMPLES]
    pairs = zip(planted, others, strict=False)
    return list(islice(chain.from_iterable(pairs), NUM_GRID_SAMPLES))
