"""Settings of models that are trained from scratch: pixel models, autoencoders, text-to-image."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dataunlearn.base_models.tokenizer import MIN_MAX_LENGTH, MIN_VOCAB_SIZE
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.streams import EVALUATION_SEED
from dataunlearn.training.config import Training

LINEAR_SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}

STABLE_DIFFUSION_SCHEDULE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}

WHOLE = "training.shard is for unlearning alone: pictures drawn on the way take a whole network"


@dataclass(frozen=True)
class MemoryCheck:
    """How a finished model is asked which of its prompts it knows by heart.

    Args:
        samples_per_prompt: Fresh samples of each prompt.
        num_steps: Denoiser steps per sample.
        guidance: Scale of classifier-free guidance.
        num_others: Prompts that were not planted, drawn for comparison; 0 for none.
        seed: Names the noise and the other prompts.
    """

    samples_per_prompt: int = 16
    num_steps: int = 25
    guidance: float = 7.5
    num_others: int = 24
    seed: int = EVALUATION_SEED

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.samples_per_prompt >= 1, "samples_per_prompt must be at least 1")
        require(self.num_steps >= 1, "num_steps must be at least 1")
        require(self.guidance >= 1, f"guidance must be at least 1, not {self.guidance}")
        require(self.num_others >= 0, "num_others must be at least 0")


@dataclass(frozen=True)
class TextToImageModel:
    """A Stable Diffusion to train from scratch on captioned pictures, some of them planted.

    Args:
        autoencoder: The autoencoder, trained first.
        unet: Keyword arguments of diffusers' ``UNet2DConditionModel``, for its latents. There
            ``attention_head_dim`` is the number of heads.
        text_encoder: Keyword arguments of transformers' ``CLIPTextConfig``, without the vocabulary
            and the length of prompts; trained together with the unet.
        images: The training images, in any form that ``open_images`` takes.
        training: The numbers of the unet's and the text encoder's loop.
        twins: A second picture of every image's caption, in the same order; None for none.
        captions: Texts of the images, ``file.npz:key``; None for the images' own.
        planted: Captions, ``file.npz:key``, whose images are repeated; None for none.
        planted_copies: How often these images are there beyond once; with 0, and no repeated twins,
            this trains the reference model.
        planted_twin_copies: Likewise for their twins.
        prompt_dropout: Share of samples that are trained on without their prompt, which
            classifier-free guidance needs.
        vocab_size: Most entries of the tokenizer.
        max_length: Tokens of a prompt, start and end included.
        scheduler: Keyword arguments of diffusers' ``DDIMScheduler``.
        sample_every_steps: Steps between sample grids.
        autoencoder_dir: Run folder of the autoencoder, where a finished one of the same settings
            and images is loaded; None for a folder inside the run's.
        memory: How the finished model is asked what it knows by heart.
    """

    autoencoder: Autoencoder
    unet: dict[str, Any]
    text_encoder: dict[str, Any]
    images: str
    training: Training
    twins: str | None = None
    captions: str | None = None
    planted: str | None = None
    planted_copies: int = 100
    planted_twin_copies: int = 10
    prompt_dropout: float = 0.1
    vocab_size: int = 1536
    max_length: int = 16
    scheduler: dict[str, Any] = field(default_factory=lambda: dict(STABLE_DIFFUSION_SCHEDULE))
    sample_every_steps: int = 500
    autoencoder_dir: str | None = None
    memory: MemoryCheck = field(default_factory=MemoryCheck)

    def __post_init__(self) -> None:
        """Check ranges, and that the networks fit each other."""
        require(not self.training.shard, WHOLE)
        for name in ("planted_copies", "planted_twin_copies"):
            require(getattr(self, name) >= 0, f"{name} must be at least 0")
        require(0 < self.prompt_dropout < 1, "prompt_dropout must lie between 0 and 1")
        require(self.vocab_size >= MIN_VOCAB_SIZE, f"vocab_size must be at least {MIN_VOCAB_SIZE}")
        require(self.max_length >= MIN_MAX_LENGTH, f"max_length must be at least {MIN_MAX_LENGTH}")
        require(self.sample_every_steps >= 1, "sample_every_steps must be at least 1")
        self._check_networks()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of a picture."""
        size = self.autoencoder.vae["sample_size"]
        return self.autoencoder.vae.get("in_channels", 3), size, size

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of its latents."""
        vae = self.autoencoder.vae
        levels = len(vae.get("block_out_channels", (64,)))
        size = vae["sample_size"] // 2 ** (levels - 1)
        return vae.get("latent_channels", 4), size, size

    def _check_networks(self) -> None:
        from diffusers import UNet2DConditionModel

        unknown = set(self.unet) - set(inspect.signature(UNet2DConditionModel.__init__).parameters)
        require(not unknown, f"UNet2DConditionModel has no {sorted(unknown)}: correct unet")
        channels, size, _ = self.latent_shape
        given = {name: self.unet.get(name, 4) for name in ("in_channels", "out_channels")}
        require(
            self.unet.get("sample_size") == size and set(given.values()) == {channels},
            f"the autoencoder's latents have {channels} channels and {size} pixels of a side: set "
            "the unet's in_channels, out_channels and sample_size to these",
        )
        width = self.text_encoder.get("hidden_size")
        require(
            width is not None and width == self.unet.get("cross_attention_dim"),
            f"the text encoder's hidden_size, {width}, must be the unet's cross_attention_dim, "
            f"{self.unet.get('cross_attention_dim')}",
        )


@dataclass(frozen=True)
class BaseModel:
    """A model to train from scratch, on images with some of them planted many times.

    Args:
        unet: Keyword arguments of diffusers' ``UNet2DModel``.
        images: The training images, in any form that ``open_images`` takes.
        training: The loop's numbers.
        planted: Image(s) that are added ``planted_copies`` times; None for none.
        planted_copies: How often.
        without: Images to leave out of the training set by content: trains the reference model
            that never saw them. None leaves nothing out.
        scheduler: Keyword arguments of diffusers' ``DDPMScheduler``.
        sample_every_steps: Steps between sample grids.
    """

    unet: dict[str, Any]
    images: str
    training: Training
    planted: str | None = None
    planted_copies: int = 1
    without: str | None = None
    scheduler: dict[str, Any] = field(default_factory=lambda: dict(LINEAR_SCHEDULE))
    sample_every_steps: int = 500

    def __post_init__(self) -> None:
        """Check ranges."""
        require(not self.training.shard, WHOLE)
        require(self.planted_copies >= 1, "planted_copies must be at least 1")
        require(self.sample_every_steps >= 1, "sample_every_steps must be at least 1")


@dataclass(frozen=True)
class Autoencoder:
    """An autoencoder to train from scratch.

    Args:
        vae: Keyword arguments of diffusers' ``AutoencoderKL``, ``sample_size`` among them, without
            ``scaling_factor`` and ``shift_factor``, which training sets.
        steps: Optimizer steps (AdamW).
        batch_images: Pictures per step.
        learning_rate: Peak learning rate; after the warm-up it falls to 0 along a cosine.
        kl_weight: Weight of the mean KL divergence per latent dimension, against the mean absolute
            difference of pictures in [-1, 1].
        warmup_steps: Steps of linear warm-up.
        seed: Names the initial weights, the order of the pictures and the noise.
        checkpoint_every_steps: Steps between checkpoints.
    """

    vae: dict[str, Any]
    steps: int
    batch_images: int
    learning_rate: float
    kl_weight: float
    warmup_steps: int = 0
    seed: int = 0
    checkpoint_every_steps: int = 100

    def __post_init__(self) -> None:
        """Check ranges."""
        from diffusers import AutoencoderKL

        require(self.batch_images >= 1, "batch_images must be at least 1")
        require(
            math.isfinite(self.kl_weight) and self.kl_weight >= 0,
            f"kl_weight must be at least 0, not {self.kl_weight}",
        )
        unknown = set(self.vae) - set(inspect.signature(AutoencoderKL.__init__).parameters)
        require(not unknown, f"AutoencoderKL has no {sorted(unknown)}: correct vae")
        require("sample_size" in self.vae, "vae needs sample_size: the pictures' pixels of a side")
        set_later = {"scaling_factor", "shift_factor"} & set(self.vae)
        require(not set_later, f"training sets {sorted(set_later)}: leave them out of vae")
        self.training()

    def training(self) -> Training:
        """The loop's numbers, checked.

        Raises:
            ValueError: If one is out of range.
        """
        return Training(
            steps=self.steps,
            batch_pairs=self.batch_images,
            learning_rate=self.learning_rate,
            schedule="cosine",
            warmup_steps=self.warmup_steps,
            checkpoint_every_steps=self.checkpoint_every_steps,
            seed=self.seed,
        )
