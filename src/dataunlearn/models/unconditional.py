"""Unconditional and class-conditional pixel models: ``UNet2DModel`` and its pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dataunlearn.process import ForwardProcess


class UnconditionalDenoiser(nn.Module):
    """A ``UNet2DModel`` behind the one call that the engine knows."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noisy: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Predict from noisy samples ``(B, C, H, W)`` at timesteps ``(B,)``.

        Args:
            noisy: Noisy samples.
            t: Timesteps.
            cond: Class labels ``(B,)`` of a class-conditional model, else None.

        Returns:
            The prediction, ``(B, C, H, W)``.
        """
        prediction: Tensor = self.unet(noisy, t, class_labels=cond, return_dict=False)[0]
        return prediction


@dataclass(eq=False)
class DiffusionModel:
    """A loaded model: its pipeline, and what the rest of the library needs to know of it.

    Attributes:
        pipeline: The diffusers pipeline; its ``unet`` is the module that is trained.
        denoiser: The adapter around it.
        process: The forward process it was trained with.
        shape: (channels, height, width) of a sample; pixels lie in [-1, 1].
        num_classes: Number of class labels, or None for an unconditional model.
        source: Where it was loaded from.
    """

    pipeline: Any
    denoiser: UnconditionalDenoiser
    process: ForwardProcess
    shape: tuple[int, int, int]
    num_classes: int | None
    source: str

    @classmethod
    def from_pipeline(cls, pipeline: Any, source: str = "pipeline") -> DiffusionModel:
        """Wrap a pipeline that is already in memory.

        Raises:
            ValueError: If its denoiser is not a ``UNet2DModel`` on pixels.
        """
        unet: Any = getattr(pipeline, "unet", None)
        if type(unet).__name__ != "UNet2DModel" or getattr(pipeline, "vqvae", None) is not None:
            found = type(unet).__name__ if unet is not None else "no unet"
            raise ValueError(
                f"{source}: {type(pipeline).__name__} with {found} is not supported; supported are "
                "pixel-space pipelines around a UNet2DModel (DDPMPipeline, DDIMPipeline, ...)"
            )
        config = unet.config
        if config.out_channels != config.in_channels:
            raise ValueError(
                f"{source}: a UNet2DModel with {config.in_channels} input and "
                f"{config.out_channels} output channels (learned variance) is not supported"
            )
        size = config.sample_size
        if size is None:
            raise ValueError(
                f"{source}: the unet's config has no sample_size; add it to config.json"
            )
        height, width = (size, size) if isinstance(size, int) else tuple(size)
        num_classes = config.get("num_class_embeds")
        if config.get("class_embed_type") is not None and num_classes is None:
            raise ValueError(
                f"{source}: class_embed_type={config.class_embed_type!r} is not supported; "
                "supported are num_class_embeds labels or no classes"
            )
        return cls(
            pipeline,
            UnconditionalDenoiser(unet),
            ForwardProcess.from_scheduler(pipeline.scheduler),
            (config.in_channels, height, width),
            num_classes,
            source,
        )

    @property
    def device(self) -> torch.device:
        """Where the denoiser's parameters live."""
        return next(self.denoiser.parameters()).device

    @property
    def num_parameters(self) -> int:
        """Number of the denoiser's parameters."""
        return sum(param.numel() for param in self.denoiser.parameters())

    @property
    def clips_samples(self) -> bool:
        """Whether the scheduler clips the clean estimate to its range while sampling."""
        return bool(self.pipeline.scheduler.config.get("clip_sample", False))
