"""Samples of the model before unlearning, drawn once for all runs that are judged against them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dataunlearn.data.prompt import Prompt
from dataunlearn.models import DiffusionModel
from dataunlearn.models.identity import describe_scheduler, hash_other_networks
from dataunlearn.models.latents import text_space
from dataunlearn.models.sampling import Progress
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.samples import draw
from dataunlearn.runtime.tensors import kept_samples, write_samples

FOLDER = "before"


@dataclass(frozen=True)
class SampleCache:
    """A folder of samples, each set in a file that is named after all that it depends on.

    Attributes:
        folder: Where they are; it need not exist.
        origin: The model and the settings of sampling that they come from.
    """

    folder: Path
    origin: str

    @classmethod
    def of(cls, model: DiffusionModel, config: PromptUnlearning, weights: str) -> SampleCache:
        """The samples of a model with these weights, in the folder that the settings name."""
        drawn_with = [config.evaluation_seed, config.sampling_steps, model.shift]
        shape, others = list(model.image_shape), hash_other_networks(model)
        origin = [weights, others, describe_scheduler(model), shape, *drawn_with]
        return cls(config.before or config.out / FOLDER, json.dumps(origin))

    def file(self, model: DiffusionModel, prompts: Sequence[Prompt], *place: int) -> Path:
        """Where samples of prompts are, by their encodings: an embedding may be called anything.

        Args:
            model: The model, which encodes the prompts, with the guidance that they are drawn with.
            prompts: What they are samples of.
            *place: Their number, and what names their noise.
        """
        digest = hashlib.sha256(json.dumps([self.origin, model.guidance, *place]).encode())
        for name, value in sorted(text_space(model).prompts(prompts).fields.items()):
            digest.update(name.encode() + value.detach().float().contiguous().numpy().tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"


def draw_once(
    cache: SampleCache | None,
    model: DiffusionModel,
    config: PromptUnlearning,
    prompts: Sequence[Prompt],
    *place: int,
    progress: Progress,
) -> Tensor:
    """Samples ``(N, C, H, W)``: kept ones if they are there, else drawn, and kept from then on.

    Args:
        cache: Where they are kept; None draws them anew.
        model: The model, in eval mode.
        config: Steps, batch and evaluation seed.
        prompts: What it is asked for, in turn.
        *place: N, and what names their noise, together with the evaluation seed.
        progress: Called with the number of samples finished by each batch.
    """
    if cache is None:
        return draw(model, config, prompts, *place, progress=progress)
    file = cache.file(model, prompts, *place)
    kept = kept_samples(file)
    if kept is not None:
        progress(len(kept))
        return kept
    samples = draw(model, config, prompts, *place, progress=progress)
    write_samples(file, samples)
    return samples
