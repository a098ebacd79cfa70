"""Prompt memory: how often fresh samples of a prompt are its memorised picture.

The memorised fraction and the success rate over prompts of Alberti et al. 2025 on Stable Diffusion:
a prompt counts as mitigated if none of its first 8 samples is memorised (16 in later work). Who
says which samples are memorised is a judge: the distance to a picture that is known, or the two
clusters that were labelled on samples of the original model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dataunlearn.data.prompt import Prompt
from dataunlearn.metrics.intervals import mean_interval, wilson
from dataunlearn.metrics.pixel_distance import are_copies
from dataunlearn.metrics.result import Result
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.sampling import DEFAULT_DRAWING, Drawing, generate


class Judge(ABC):
    """Says which samples of one prompt are memorised; implementations are frozen dataclasses."""

    @abstractmethod
    def __call__(self, samples: Tensor) -> Tensor:
        """Which samples ``(N, C, H, W)`` in [-1, 1] are memorised, ``(N,)`` bool.

        Raises:
            ValueError: If their shape is not that of the pictures it knows.
        """


@dataclass(frozen=True, eq=False)
class NearOriginal(Judge):
    """Memorised is what lies near a known picture.

    Args:
        original: ``(C, H, W)`` in [-1, 1].
        threshold: Pixel distance, in [0, 1] pixels, below which a sample is memorised.
    """

    original: Tensor
    threshold: float

    def __call__(self, samples: Tensor) -> Tensor:
        """Those within the threshold."""
        if samples.shape[1:] != self.original.shape:
            raise ValueError(
                f"samples of shape {tuple(samples.shape[1:])} for an original of "
                f"{tuple(self.original.shape)}: bring the original to the samples' shape"
            )
        return are_copies(samples, self.original[None], self.threshold)


def near_originals(originals: Tensor, threshold: float | Tensor) -> list[NearOriginal]:
    """A judge for each original.

    Args:
        originals: ``(P, C, H, W)`` in [-1, 1].
        threshold: Pixel distance for all of them, or ``(P,)`` one for each.

    Raises:
        ValueError: If the numbers of originals and thresholds differ.
    """
    limits = torch.as_tensor(threshold, dtype=torch.float64).cpu()
    if limits.ndim > 1 or (limits.ndim == 1 and len(limits) != len(originals)):
        raise ValueError(
            f"{len(originals)} originals with thresholds {tuple(limits.shape)}: give one number, "
            "or one for each original"
        )
    each = limits.expand(len(originals)).tolist()
    return [NearOriginal(picture, limit) for picture, limit in zip(originals, each, strict=True)]


def memorised_samples(
    model: DiffusionModel,
    prompts: Sequence[Prompt],
    judges: Sequence[Judge],
    *,
    samples_per_prompt: int = 16,
    drawing: Drawing = DEFAULT_DRAWING,
) -> Tensor:
    """Draw fresh samples of prompts and ask which are memorised.

    Sample j of a prompt depends on the prompt and (seed, j) alone, so the samples of two models can
    be compared one by one.

    Args:
        model: A text-to-image model, in eval mode.
        prompts: P prompts.
        judges: One for each prompt.
        samples_per_prompt: S.
        drawing: How they are drawn; with another seed than the samples that a labelling was fitted
            on. What for is up to ``prompts``.

    Returns:
        ``(P, S)`` bool.

    Raises:
        ValueError: If there are no prompts or samples, or not as many judges as prompts.
    """
    if isinstance(prompts, str) or not prompts or len(prompts) != len(judges):
        raise ValueError(f"{len(judges)} judges for the prompts {prompts!r}: give one for each")
    if samples_per_prompt < 1:
        raise ValueError(f"samples_per_prompt is {samples_per_prompt}: give at least 1")
    found = []
    for prompt, judge in zip(prompts, judges, strict=True):
        samples = generate(model, samples_per_prompt, replace(drawing, prompts=[prompt]))
        found.append(judge(samples))
    return torch.stack(found)


def memorised_share(found: Tensor, *, name: str = "prompt_memory") -> Result:
    """Mean over prompts of the share of memorised samples.

    Args:
        found: Which samples are memorised, ``(P, S)`` bool.
        name: Name of the result.

    Returns:
        The mean share with its bootstrap interval over prompts; where all or none of all samples
        are memorised Wilson's over prompts, since resampling sees no spread there; of one prompt
        Wilson's over its samples. ``per_item`` has the shares ``(P,)``.

    Raises:
        ValueError: If there are no samples.
    """
    _check(found)
    shares = found.double().mean(dim=1)
    if len(shares) == 1:
        interval = wilson(int(found.sum()), found.shape[1])
    elif found.all() or not found.any():
        interval = wilson(int(shares.sum()), len(shares))
    else:
        interval = mean_interval(shares.numpy())
    settings = {"num_prompts": len(found), "samples_per_prompt": found.shape[1]}
    return Result(name, float(shares.mean()), interval, False, settings, shares)


def mitigated_share(found: Tensor, *, num_samples: int = 8) -> Result:
    """Share of prompts without any memorised picture among their first samples.

    Args:
        found: Which samples are memorised, ``(P, S)`` bool.
        num_samples: How many of the S count; 8 in Alberti et al. 2025, 16 in ReTrack.

    Returns:
        The share with its Wilson interval; ``per_item`` tells which prompts, ``(P,)`` bool.

    Raises:
        ValueError: If there are fewer samples, or none.
    """
    _check(found)
    if not 1 <= num_samples <= found.shape[1]:
        raise ValueError(
            f"num_samples is {num_samples}, of {found.shape[1]} samples per prompt: draw more, or "
            "count fewer"
        )
    clean = ~found[:, :num_samples].any(dim=1)
    count = int(clean.sum())
    settings = {"num_prompts": len(found), "samples_per_prompt": num_samples}
    name, interval = f"mitigated_share_{num_samples}", wilson(count, len(found))
    return Result(name, count / len(found), interval, True, settings, clean)


def prompt_memory(
    model: DiffusionModel,
    prompts: Sequence[str],
    originals: Tensor,
    *,
    threshold: float | Tensor,
    samples_per_prompt: int = 16,
    drawing: Drawing = DEFAULT_DRAWING,
) -> Result:
    """Share of fresh samples of each prompt that are copies of its original.

    For other judges, or :func:`mitigated_share` of the same samples, call
    :func:`memorised_samples`.

    Args:
        model: A text-to-image model, in eval mode.
        prompts: P texts.
        originals: Their pictures ``(P, C, H, W)`` in [-1, 1].
        threshold: Pixel distance, in [0, 1] pixels, below which a sample is a copy; one, or
            ``(P,)``.
        samples_per_prompt: Samples of each.
        drawing: How they are drawn; what for is up to ``prompts``.

    Returns:
        As :func:`memorised_share`.

    Raises:
        ValueError: If prompts, originals and thresholds do not fit together.
    """
    found = memorised_samples(
        model,
        prompts,
        near_originals(originals, threshold),
        samples_per_prompt=samples_per_prompt,
        drawing=drawing,
    )
    result, limits = memorised_share(found), torch.as_tensor(threshold).tolist()
    facts = {
        "threshold": limits,
        "seed": drawing.seed,
        "num_steps": drawing.num_steps,
        "guidance": model.guidance,
    }
    return replace(result, settings={**result.settings, **facts})


def _check(found: Tensor) -> None:
    if found.ndim != 2 or not found.numel() or found.dtype != torch.bool:
        raise ValueError(f"got {found.dtype} {tuple(found.shape)}; give bools (prompts, samples)")
