"""A text encoder that is trained together with its unet: the denoiser takes token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from dataunlearn.conditioning import Cond, TextCond
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.latents import TextSpace
from dataunlearn.models.text_to_image import prompts_of


class PromptedDenoiser(nn.Module):
    """A ``UNet2DConditionModel`` with its CLIP text encoder."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, noisy: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Predict from noisy latents ``(B, C, H, W)``, with ``tokens (B, L)`` int64 in ``cond``."""
        prompt = self.text_encoder(prompts_of(cond).fields["tokens"])[0]  # (B, L, D)
        prediction: Tensor = self.unet(noisy, t, encoder_hidden_states=prompt, return_dict=False)[0]
        return prediction


def with_trained_prompts(pipeline: Any) -> DiffusionModel:
    """Wrap a ``StableDiffusionPipeline`` so that its text encoder is trained, too.

    Pictures become latents as for any latent model; captions become token ids, which are the same
    whatever training does. Saving it writes an ordinary pipeline.

    Raises:
        ValueError: As :func:`wrap_pipeline` does.
    """

    def tokenise(texts: Sequence[str]) -> TextCond:
        found = pipeline.tokenizer(
            list(texts),
            padding="max_length",
            max_length=pipeline.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return TextCond({"tokens": found.input_ids})

    model = wrap_pipeline(pipeline)
    assert isinstance(model.space, TextSpace)
    denoiser = PromptedDenoiser(pipeline.unet, pipeline.text_encoder.requires_grad_(True))
    return replace(model, denoiser=denoiser, space=TextSpace(model.space.coder, tokenise))
