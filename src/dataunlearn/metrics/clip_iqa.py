"""CLIP-IQA: how good pictures look to CLIP (Wang et al. 2023, arXiv 2207.12396).

The probability of "Good photo." against "Bad photo." under a softmax of 100 times the cosine
similarities, through torchmetrics. The network is part of what is measured; numbers of two
networks are not comparable.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.intervals import mean_interval
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.result import Result

CPU = torch.device("cpu")
PAPER_CLIP = "clip_iqa"
DEFAULT_CLIP = "openai/clip-vit-large-patch14"
QUALITY = ("Good photo.", "Bad photo.")


class _ClipFeatures(nn.Module):
    """A transformers CLIP whose features are plain tensors, as torchmetrics takes them."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Features ``(B, D)`` of preprocessed pictures."""
        features: Tensor = self.clip.get_image_features(pixel_values).pooler_output
        return features

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Features ``(B, D)`` of tokens."""
        features: Tensor = self.clip.get_text_features(input_ids, attention_mask).pooler_output
        return features


def open_clip_iqa(clip: str = DEFAULT_CLIP, device: torch.device = CPU) -> Any:
    """The metric, a ``CLIPImageQualityAssessment`` of torchmetrics, with a network of choice.

    Args:
        clip: A transformers CLIP, by name or folder; or ``clip_iqa``, the network of the paper,
            which the package piq brings.
        device: Where it runs.

    Raises:
        ValueError: If the network or a package is missing.
    """
    from torchmetrics.multimodal.clip_iqa import CLIPImageQualityAssessment

    def load() -> tuple[nn.Module, Any]:
        from transformers import CLIPModel, CLIPProcessor

        return _ClipFeatures(CLIPModel.from_pretrained(clip)), CLIPProcessor.from_pretrained(clip)

    # Pictures are divided by data_range, and the preprocessing of a transformers CLIP divides by
    # 255 by itself.
    paper = clip == PAPER_CLIP
    source: Any = PAPER_CLIP if paper else load
    try:
        metric = CLIPImageQualityAssessment(
            source, data_range=255 if paper else 1, prompts=(QUALITY,)
        )
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(_advice(clip)) from error
    return metric.eval().to(device)


def _advice(clip: str) -> str:
    if clip == PAPER_CLIP:
        return (
            "CLIP-IQA with the paper's network needs piq, which needs torchvision: pip install piq "
            "(it fetches weights when it is first used), or give a transformers CLIP"
        )
    return (
        f"there is no CLIP {clip}: give the folder of a transformers CLIP with its weights, "
        "config.json, preprocessor_config.json and tokenizer, or a name on the Hugging Face hub "
        f"while there is a network, such as {DEFAULT_CLIP}"
    )


def clip_iqa(
    images: Tensor,
    metric: Any,
    *,
    name: str = "clip_iqa",
    batch_size: int = 64,
) -> Result:
    """Mean quality of pictures.

    Args:
        images: ``(N, 3, H, W)`` in [-1, 1]; judged as 8-bit pictures.
        metric: From :func:`open_clip_iqa`; what it was given before is forgotten.
        name: Name of the result.
        batch_size: Pictures per call.

    Returns:
        The mean, in [0, 1], with its bootstrap interval; ``per_item`` is ``(N,)``.

    Raises:
        ValueError: If there are no pictures, or they are not RGB.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"CLIP-IQA takes RGB pictures (N, 3, H, W), got {tuple(images.shape)}")
    metric.reset()
    for batch in torch.split(images, batch_size):
        metric.update(((batch.clamp(-1, 1) + 1) * 127.5).round().to(metric.device))
    quality = metric.compute()
    assert isinstance(quality, Tensor)
    found = quality.reshape(-1).float().cpu()
    settings = {"prompts": list(QUALITY), "num_samples": len(images)}
    interval = mean_interval(found.numpy()) if len(found) > 1 else None
    return Result(name, float(found.mean()), interval, True, settings, found)


@dataclass(frozen=True)
class ClipIQA(Measure):
    """CLIP-IQA of the model's samples; RGB pictures only.

    Args:
        clip: A transformers CLIP, by name or folder; or clip_iqa, the network of the paper, which
            needs the package piq.
    """

    clip: str = DEFAULT_CLIP
    looks_at: ClassVar[tuple[str, ...]] = ("samples",)

    def check(self, inputs: Inputs) -> None:
        """The model must draw RGB pictures, and the network must open."""
        super().check(inputs)
        if inputs.model.image_shape[0] != 3:
            shape = inputs.model.image_shape
            raise ValueError(f"ClipIQA is for RGB pictures; the model draws {shape}: leave it out")
        open_clip_iqa(self.clip)

    def __call__(self, inputs: Inputs) -> list[Result]:
        """One mean."""
        device = inputs.model.device if inputs.model.device.type == "cuda" else CPU
        metric = open_clip_iqa(self.clip, device)
        found = clip_iqa(inputs.samples, metric, batch_size=inputs.batch_size)
        settings = {"clip": self.clip, **found.settings}
        return [replace(found, settings=settings)]
