"""What the text-to-image families have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from dataunlearn.conditioning import Cond, TextCond
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.latents import Encode, LatentCoder, TextSpace
from dataunlearn.process import ForwardProcess
from dataunlearn.runtime.checks import in_one_line, require

LatentSize = tuple[int, int]
MOST_TOKENS = "max_position_embeddings"
PROMPT_WIDTHS = ("encoder_hid_dim", "cross_attention_dim", "joint_attention_dim")
LARGEST_SIDE = 16384


def prompts_of(cond: Cond | None) -> TextCond:
    """The encoded prompts that a text-to-image denoiser needs.

    Raises:
        ValueError: If there are none.
    """
    if not isinstance(cond, TextCond):
        raise ValueError("a text-to-image model needs prompts; give captions, or an empty prompt")
    return cond


def wrap_text_to_image(
    pipeline: Any,
    denoiser: nn.Module,
    encode: Encode,
    *,
    latent_channels: int,
    latent_size: LatentSize,
    guidance: float,
    source: str,
    shift: float = 1.0,
) -> DiffusionModel:
    """Wrap a pipeline of a VAE, text encoders and a denoiser of latents.

    Args:
        pipeline: The diffusers pipeline.
        denoiser: The family's adapter around its network.
        encode: Encodes prompts.
        latent_channels: Channels of the denoiser's samples.
        latent_size: Their height and width.
        guidance: The family's usual scale of classifier-free guidance.
        source: Where it was loaded from.
        shift: How a flow model spaces its sampling steps.

    Raises:
        ValueError: If its parts do not fit together.
    """
    encoders = text_encoders(pipeline)
    for encoder in encoders:
        encoder.eval().requires_grad_(False)
    require_fitting_tokenizers(pipeline)
    require_fitting_parts(pipeline, encode, latent_channels)
    coder = LatentCoder.of(pipeline.vae)
    height, width = (side * coder.downscale for side in latent_size)
    return DiffusionModel(
        pipeline,
        denoiser,
        ForwardProcess.from_scheduler(pipeline.scheduler),
        (latent_channels, *latent_size),
        (pipeline.vae.config.in_channels, height, width),
        TextSpace(coder, encode, encoders),
        source,
        guidance,
        shift,
    )


def require_fitting_tokenizers(pipeline: Any) -> None:
    """Refuse tokenizers that make other tokens, or more of them, than their text encoders take.

    Raises:
        ValueError: Naming the tokenizer and its setting.
    """
    for suffix in ("", "_2", "_3"):
        tokenizer = getattr(pipeline, f"tokenizer{suffix}", None)
        encoder = getattr(pipeline, f"text_encoder{suffix}", None)
        if tokenizer is None or encoder is None:
            continue
        length, most = tokenizer.model_max_length, _number(encoder.config, MOST_TOKENS)
        require(
            isinstance(length, (int, float)),
            f"tokenizer{suffix} has model_max_length {length}: it must be a number",
        )
        require(
            most is None or length <= most,
            f"tokenizer{suffix} has model_max_length {length:.6g}, and text_encoder{suffix} takes "
            f"at most {most} tokens: set it in tokenizer_config.json",
        )
        known, vocabulary = len(tokenizer), _number(encoder.config, "vocab_size")
        require(
            vocabulary is None or known <= vocabulary,
            f"tokenizer{suffix} has {known} tokens, and text_encoder{suffix} knows {vocabulary}: "
            "they are of different models, or tokens were added to one of them",
        )


def require_fitting_parts(pipeline: Any, encode: Encode, latent_channels: int) -> None:
    """Refuse text encoders, a denoiser and a VAE that are of different models.

    Raises:
        ValueError: Naming the two that do not fit.
    """
    coded = _number(pipeline.vae.config, "latent_channels")
    require(
        coded is None or coded == latent_channels,
        f"the vae's latents have {coded} channels, and the denoiser's {latent_channels}: they are "
        "of different models",
    )
    try:
        width = encode([""]).fields["prompt"].shape[-1]
    except Exception as error:
        raise ValueError(
            f"the empty prompt cannot be encoded, so that tokenizer and text encoder do not fit "
            f"together: {in_one_line(error)}"
        ) from error
    unet = getattr(pipeline, "unet", None)  # a compiled one has no length, and so no truth
    network = pipeline.transformer if unet is None else unet
    wanted = next(filter(None, (_number(network.config, name) for name in PROMPT_WIDTHS)), width)
    require(
        wanted == width,
        f"the text encoder's prompts are {width} wide, and the denoiser takes {wanted}: they are "
        "of different models",
    )


def _number(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    return value if isinstance(value, int) else None


def text_encoders(pipeline: Any) -> Sequence[nn.Module]:
    """The text encoders that a pipeline has."""
    names = ("text_encoder", "text_encoder_2", "text_encoder_3")
    found = (getattr(pipeline, name, None) for name in names)
    return [encoder for encoder in found if encoder is not None]


def latent_size_for(
    pipeline: Any, image_size: int | None, default: Any, multiple: int = 1
) -> LatentSize:
    """Height and width of the latents of pictures of ``image_size`` pixels a side.

    Args:
        pipeline: A pipeline with a VAE.
        image_size: Pixels of a side; None for the model's own.
        default: The model's own latent size as its config has it: a number, two, or nothing.
        multiple: What the latent size must be a multiple of.

    Raises:
        ValueError: If no latent has that size, or the model has none of its own.
    """
    if image_size is None:
        return size_in(default, multiple)
    step = LatentCoder.of(pipeline.vae).downscale * multiple
    if image_size < step or image_size % step:
        raise ValueError(f"image_size must be a multiple of {step} for this model: {image_size}")
    side = image_size // step * multiple
    return side, side


def size_in(sample_size: Any, multiple: int = 1) -> LatentSize:
    """Height and width by a config's ``sample_size``.

    Raises:
        ValueError: If it is no size.
    """
    sides = [sample_size] * 2 if isinstance(sample_size, int) else sample_size
    if sides is None:
        raise ValueError("the network's config has no sample_size: add it, or give --image_size")
    whole = isinstance(sides, (list, tuple)) and len(sides) == 2
    if not whole or not all(isinstance(s, int) and 0 < s <= LARGEST_SIDE for s in sides):
        raise ValueError(
            f"the network's config has sample_size {sample_size}: it must be one number or two, "
            f"height and width, up to {LARGEST_SIDE}"
        )
    if any(side % multiple for side in sides):
        raise ValueError(
            f"the network's config has sample_size {sample_size}: both must be multiples of its "
            f"patches' side {multiple}"
        )
    height, width = sides
    return height, width
