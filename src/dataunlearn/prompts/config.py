"""Settings of ``dataunlearn unlearn-prompts``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from dataunlearn.runtime.checks import require
from dataunlearn.runtime.streams import EVALUATION_SEED
from dataunlearn.unlearning.config import Settings
from dataunlearn.unlearning.parsing import parse_settings

SET_BY_WORKFLOW = ("model", "forget", "keep", "out", "image_size", "guidance", "device")
DEFAULTS: dict[str, Any] = {
    "objective": "SISS",
    "timesteps": "Last",
    "keep_towards": "data",
    "stop": {"every_steps": 10, "copies": 4},
}
# Settings of `unlearn` that are about pictures from files, or about its own measurements.
MEANINGLESS = ("scheduler", "resize", "keep_from", "drop_overlap", "force", "evaluation")


@dataclass(frozen=True)
class PromptUnlearning:
    """Settings of ``dataunlearn unlearn-prompts``. Model, prompts and out are enough.

    Args:
        model: Pipeline folder or hub id of a text-to-image model.
        prompts: The prompts: a .yaml, .json, .txt, .csv or .parquet file; or a folder of labelled
            samples in the published layout, which is taken as it is.
        out: Folder for the samples, the new model and the report.
        images_per_prompt: Samples drawn and labelled for each prompt.
        condition_on: Which prompt the pictures are unlearned with: the original one, or, as
            published, the modified one.
        min_keep: Pictures on each prompt's keep side. Where fewer of its samples are not memorised,
            others join them: first some that are drawn with ``keep_guidance``, then samples of its
            modified prompt.
        keep_guidance: Scale of classifier-free guidance for those: with less of it a prompt gives
            more kinds of pictures, and 1 is none. None draws no such samples.
        optimise: When to find a modified prompt where none is given, by optimising the embedding
            until the text-noise norm falls (Wen et al. 2024): "where_needed" to have enough to
            keep or something to condition on, "always", or "never".
        one_run_each: A model for each prompt instead of one for all.
        prior: A file of prompts that are to stay as they are: their samples join every step's keep
            side. None for none.
        prior_images: Samples drawn for each of them.
        prior_share: How much they count against the keep pictures of the named prompts.
        unlearning: Settings of ``dataunlearn unlearn`` (objective, steps, lora, timesteps, seed,
            ...). Other defaults hold here: the last timestep alone, where the prompt decides what
            the picture will be; the keep side on data, since what the model predicts for the prompt
            is what it is to forget; and a stop rule that looks at ``stop.copies`` fresh samples of
            each prompt, every ``stop.every_steps`` steps.
        fresh_samples: Samples of each prompt that are judged before and after.
        unnamed: A file of prompts whose drift is measured; None for no such measurement.
        unnamed_samples: Samples drawn for each of them.
        embedder: Compares samples with the memorised picture, and those of unnamed prompts with
            each other, as for ``dataunlearn evaluate``; "auto" is left out where it is not there.
        clip_iqa: A CLIP model, folder or hub id, that judges how good the samples look; None
            leaves that out.
        before: Folder for samples of the model before unlearning, so that several runs draw them
            once; None keeps them in ``out``.
        stop_after: "labels" ends once the samples are labelled, so that labels can be corrected
            before a second call goes on; "end" does everything.
        sampling_steps: Denoiser calls per sample.
        guidance: Scale of classifier-free guidance while sampling; None takes the family's usual.
        image_size: Pixels of a side that the model works at; None for its own.
        batch_size: Samples per call.
        evaluation_seed: Names the noise of every sample that is judged.
        device: Where to run; None takes the best there is.
    """

    model: str
    prompts: Path
    out: Path
    images_per_prompt: int = 128
    condition_on: Literal["original", "modified"] = "original"
    min_keep: int = 16
    keep_guidance: float | None = 1.0
    optimise: Literal["where_needed", "always", "never"] = "where_needed"
    one_run_each: bool = False
    prior: Path | None = None
    prior_images: int = 16
    prior_share: float = 1.0
    unlearning: dict[str, Any] = field(default_factory=dict)
    fresh_samples: int = 16
    unnamed: Path | None = None
    unnamed_samples: int = 4
    embedder: str = "auto"
    clip_iqa: str | None = None
    before: Path | None = None
    stop_after: Literal["labels", "end"] = "end"
    sampling_steps: int = 50
    guidance: float | None = None
    image_size: int | None = None
    batch_size: int = 16
    evaluation_seed: int = EVALUATION_SEED
    device: Literal["cpu", "cuda", "mps"] | None = None

    def __post_init__(self) -> None:
        """Check ranges, and the settings of the unlearning as its own command would."""
        for name in ("prior_images", "fresh_samples", "unnamed_samples", "sampling_steps"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        require(self.images_per_prompt >= 4, "images_per_prompt must be at least 4: two clusters")
        require(self.batch_size >= 1, "batch_size must be at least 1")
        require(self.min_keep >= 1, "min_keep must be at least 1")
        seed = self.evaluation_seed
        require(seed >= 0, f"evaluation_seed must be at least 0, not {seed}")
        require(self.prior_share > 0, f"prior_share must be above 0, not {self.prior_share}")
        for name in ("guidance", "keep_guidance"):
            scale = getattr(self, name)
            require(scale is None or scale >= 1, f"{name} must be at least 1")
        for name in SET_BY_WORKFLOW:
            require(
                name not in self.unlearning, f"unlearning must not give {name}: it is set already"
            )
        for name in MEANINGLESS:
            require(
                name not in self.unlearning,
                f"unlearning must not give {name}: it has no meaning for samples of prompts",
            )
        require(
            self.settings.stop.timestep is None,
            "unlearning must not give stop.timestep: a look draws whole samples of the prompts",
        )
        require(
            not self.settings.shard,
            "unlearning must not give shard: samples of the prompts take a whole network",
        )

    @cached_property
    def settings(self) -> Settings:
        """The settings of each unlearning run.

        Raises:
            ValueError: If ``unlearning`` has a key or value that does not fit.
        """
        given = {
            **DEFAULTS,
            **self.unlearning,
            "image_size": self.image_size,
            "guidance": self.guidance,
            "evaluation": {"batch_size": self.batch_size},
        }
        try:
            return parse_settings(Settings, given)
        except (ValueError, TypeError) as error:
            raise ValueError(f"unlearning: {error}") from error
