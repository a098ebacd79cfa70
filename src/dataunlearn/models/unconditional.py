"""Unconditional and class-conditional pixel models: ``UNet2DModel`` and its pipelines."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.space import PixelSpace
from dataunlearn.models.text_to_image import size_in
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


def wrap_unconditional(pipeline: Any, source: str) -> DiffusionModel:
    """Wrap a pixel-space pipeline around a ``UNet2DModel``.

    Raises:
        ValueError: If the unet is of a kind that is not supported.
    """
    if getattr(pipeline, "vqvae", None) is not None:
        raise ValueError(f"{source}: {type(pipeline).__name__} with a vqvae is not supported")
    unet: Any = pipeline.unet
    config = unet.config
    if config.out_channels != config.in_channels:
        raise ValueError(
            f"{source}: a UNet2DModel with {config.in_channels} input and "
            f"{config.out_channels} output channels (learned variance) is not supported"
        )
    if config.sample_size is None:
        raise ValueError(f"{source}: the unet's config has no sample_size; add it to config.json")
    height, width = size_in(config.sample_size)
    num_classes = config.get("num_class_embeds")
    if config.get("class_embed_type") is not None and num_classes is None:
        raise ValueError(
            f"{source}: class_embed_type={config.class_embed_type!r} is not supported; "
            "supported are num_class_embeds labels or no classes"
        )
    shape = (config.in_channels, height, width)
    return DiffusionModel(
        pipeline,
        UnconditionalDenoiser(unet),
        ForwardProcess.from_scheduler(pipeline.scheduler),
        shape,
        shape,
        PixelSpace(num_classes),
        source,
    )
