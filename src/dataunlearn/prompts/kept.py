"""Samples of the model before unlearning, drawn once for all runs that are judged against them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from dataunlearn.checkpoint import write_atomically
from dataunlearn.metrics.text_noise import text_space
from dataunlearn.models import DiffusionModel
from dataunlearn.models.loading import hash_weights
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.sampling import Progress

FOLDER = "before"


@dataclass(frozen=True)
class KeptSamples:
    """A folder of samples, each set in a file that is named after all that it depends on.

    Attributes:
        folder: Where they are; it need not exist.
        origin: The model and the settings of sampling that they come from.
    """

    folder: Path
    origin: str

    @classmethod
    def of(cls, model: DiffusionModel, config: PromptUnlearning) -> KeptSamples:
        """The samples of a model as it is now, in the folder that the settings name."""
        drawn_with = [config.evaluation_seed, config.sampling_steps, model.guidance]
        origin = [config.model, hash_weights(model), list(model.image_shape), *drawn_with]
        return cls(config.before or config.out / FOLDER, json.dumps(origin))

    def remember(
        self,
        draw: Callable[[], Tensor],
        model: DiffusionModel,
        prompts: Sequence[str],
        *place: int,
        progress: Progress,
    ) -> Tensor:
        """Samples ``(N, C, H, W)`` from their file, or else drawn and put there.

        Args:
            draw: Draws them.
            model: The model, which encodes the prompts: the name of one stands for what it is.
            prompts: What they are samples of.
            *place: Their number, and what names their noise.
            progress: Called with their number if they are there.
        """
        digest = hashlib.sha256(json.dumps([self.origin, *place]).encode())
        for name, value in sorted(text_space(model).prompts(prompts).fields.items()):
            digest.update(name.encode() + value.detach().float().contiguous().numpy().tobytes())
        file = self.folder / f"{digest.hexdigest()[:32]}.safetensors"
        if file.is_file():
            kept: Tensor = load(file.read_bytes())["samples"]
            progress(len(kept))
            return kept
        samples = draw()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, save({"samples": samples.contiguous()}))
        return samples
