"""The model families there are, by the class of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.finite import require_finite_weights
from dataunlearn.models.flow_transformers import wrap_flux, wrap_stable_diffusion_3
from dataunlearn.models.parts import (
    networks_of,
    require_parts,
    require_plain_weights,
    widen,
)
from dataunlearn.models.schedulers import require_supported
from dataunlearn.models.stable_diffusion import wrap_stable_diffusion, wrap_stable_diffusion_xl
from dataunlearn.models.unconditional import wrap_unconditional

TEXT_TO_IMAGE: Mapping[str, Callable[[Any, str, int | None], DiffusionModel]] = {
    "StableDiffusionPipeline": wrap_stable_diffusion,
    "StableDiffusionXLPipeline": wrap_stable_diffusion_xl,
    "StableDiffusion3Pipeline": wrap_stable_diffusion_3,
    "FluxPipeline": wrap_flux,
}
LATENT_PARTS = ("scheduler", "vae", "text_encoder", "tokenizer")
TWO_ENCODERS = ("text_encoder_2", "tokenizer_2")
NEEDED_PARTS: Mapping[str, Sequence[str]] = {
    "StableDiffusionPipeline": ("unet", *LATENT_PARTS),
    "StableDiffusionXLPipeline": ("unet", "scheduler", "vae", *TWO_ENCODERS),
    "StableDiffusion3Pipeline": ("transformer", *LATENT_PARTS, *TWO_ENCODERS),
    "FluxPipeline": ("transformer", *LATENT_PARTS, *TWO_ENCODERS),
}


def wrap_pipeline(
    pipeline: Any, source: str = "pipeline", image_size: int | None = None
) -> DiffusionModel:
    """Wrap a pipeline that is in memory; its networks become float32, in place.

    A pipeline of a class of its own is taken for what it is derived from.

    Args:
        pipeline: A diffusers pipeline.
        source: Where it comes from.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.

    Raises:
        ValueError: If no adapter fits it, a part is missing, or weights are not finite, not in
            memory or quantised.
    """
    try:
        return _wrapped(pipeline, source, image_size)
    except ValueError as error:
        told = str(error)
        raise ValueError(told if told.startswith(source) else f"{source}: {told}") from error


def _wrapped(pipeline: Any, source: str, image_size: int | None) -> DiffusionModel:
    require_plain_weights(pipeline, source)
    if getattr(pipeline, "scheduler", None) is not None:
        require_supported(pipeline.scheduler)
    widen(pipeline)
    require_finite_weights(networks_of(pipeline), source)
    name = type(pipeline).__name__
    family = family_of(pipeline)
    if family is not None:
        require_parts(pipeline, NEEDED_PARTS[family], source)
        return TEXT_TO_IMAGE[family](pipeline, source, image_size)
    network = getattr(pipeline, "unet", None)
    if type(network).__name__ == "UNet2DModel":
        if image_size is not None:
            raise ValueError(f"{source} is a pixel model of a fixed size: leave out image_size")
        require_parts(pipeline, ("scheduler",), source)
        return wrap_unconditional(pipeline, source)
    found = type(network).__name__ if network is not None else "no unet"
    raise ValueError(
        f"{source}: {name} with {found} is not supported; supported are pixel-space pipelines "
        f"around a UNet2DModel (DDPMPipeline, DDIMPipeline, ...), {', '.join(TEXT_TO_IMAGE)}"
    )


def family_of(pipeline: Any) -> str | None:
    """The text-to-image pipeline that it is, or is derived from; None if it is none."""
    names = [kind.__name__ for kind in type(pipeline).__mro__]
    return next((name for name in names if name in TEXT_TO_IMAGE), None)
