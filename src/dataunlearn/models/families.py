"""The model families there are, by the class of the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.finite import networks_of, require_finite_weights
from dataunlearn.models.flow_transformers import wrap_flux, wrap_stable_diffusion_3
from dataunlearn.models.stable_diffusion import wrap_stable_diffusion, wrap_stable_diffusion_xl
from dataunlearn.models.unconditional import wrap_unconditional

TEXT_TO_IMAGE: Mapping[str, Callable[[Any, str, int | None], DiffusionModel]] = {
    "StableDiffusionPipeline": wrap_stable_diffusion,
    "StableDiffusionXLPipeline": wrap_stable_diffusion_xl,
    "StableDiffusion3Pipeline": wrap_stable_diffusion_3,
    "FluxPipeline": wrap_flux,
}


def wrap_pipeline(
    pipeline: Any, source: str = "pipeline", image_size: int | None = None
) -> DiffusionModel:
    """Wrap a pipeline that is in memory.

    Args:
        pipeline: A diffusers pipeline.
        source: Where it comes from.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.

    Raises:
        ValueError: If no adapter fits it, or weights are not finite.
    """
    require_finite_weights(networks_of(pipeline), source)
    name = type(pipeline).__name__
    if name in TEXT_TO_IMAGE:
        return TEXT_TO_IMAGE[name](pipeline, source, image_size)
    network = getattr(pipeline, "unet", None)
    if type(network).__name__ == "UNet2DModel":
        if image_size is not None:
            raise ValueError(f"{source} is a pixel model of a fixed size: leave out image_size")
        return wrap_unconditional(pipeline, source)
    found = type(network).__name__ if network is not None else "no unet"
    raise ValueError(
        f"{source}: {name} with {found} is not supported; supported are pixel-space pipelines "
        f"around a UNet2DModel (DDPMPipeline, DDIMPipeline, ...), {', '.join(TEXT_TO_IMAGE)}"
    )
