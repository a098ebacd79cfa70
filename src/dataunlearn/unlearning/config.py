"""The configuration of an unlearning run: its inputs, and everything else about it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from dataunlearn.runtime.checks import require, with_inherited_types
from dataunlearn.runtime.streams import EVALUATION_SEED
from dataunlearn.training.config import Training, Updates
from dataunlearn.unlearning.method import Method


@dataclass(frozen=True)
class Evaluation:
    """What a run measures before and after, and how much of it.

    These are settings of ``dataunlearn unlearn``; ``dataunlearn evaluate`` has its own
    (:class:`dataunlearn.metrics.inputs.Inputs`).

    Args:
        num_samples: Samples drawn from each model; 0 for none.
        sampling_steps: Denoiser calls per sample.
        regeneration_timesteps: Noise levels that forget images are restored from; empty for a
            quarter, a half, three quarters and all of the noise.
        regeneration_copies: Tries per noise level.
        regeneration_steps: Most denoiser calls per try.
        threshold: Pixel distance (pixels in [0, 1]) under which an image counts as a copy; None
            takes 7/8 of the distance from a forget image to the nearest keep image.
        digits: Judge samples as handwritten digits (Inception Score, broken pictures).
        frequency_name: What the share of copies among the samples is called.
        batch_size: Images per denoiser call.
        seed: Names the noise; the same before and after.
    """

    num_samples: int = 128
    sampling_steps: int = 25
    regeneration_timesteps: tuple[int, ...] = ()
    regeneration_copies: int = 32
    regeneration_steps: int = 20
    threshold: float | None = None
    digits: bool = False
    frequency_name: str = "copy_frequency"
    batch_size: int = 64
    seed: int = EVALUATION_SEED

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.num_samples >= 0, "num_samples must be at least 0")
        for name in ("sampling_steps", "regeneration_copies", "regeneration_steps", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        require(
            self.threshold is None or self.threshold > 0,
            f"threshold must be above 0, not {self.threshold}",
        )
        require(
            not self.digits or self.num_samples >= 20,
            "judging digits needs at least 20 samples: raise num_samples",
        )
        require(all(t >= 0 for t in self.regeneration_timesteps), "timesteps must be at least 0")
        require(self.seed >= 0, f"evaluation.seed must be at least 0, not {self.seed}")


@dataclass(frozen=True)
class Locations:
    """Where a run's inputs come from, and where its results go.

    Args:
        model: Pipeline folder, bare unet folder, or hub id.
        forget: Image(s) to forget: an image, a folder, .npy, .npz (``file.npz:key``), a saved
            dataset or a dataset id.
        keep: Images that the model should still know, in the same forms; or ``generated:2048`` to
            let the model draw them itself.
        out: Folder for the new model, the report and the log.
    """

    model: str
    forget: str
    keep: str
    out: Path


@with_inherited_types
@dataclass(frozen=True, kw_only=True)
class Settings(Updates, Method):
    """Everything about a run but where its inputs come from, which may be in memory.

    Args:
        schedule: "constant" or "cosine" (to 0 at the last step) after the warm-up; with a method
            that has an aim from where it settles.
        gradient_checkpointing: Compute activations twice instead of keeping them: less memory, a
            third more time.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.
        guidance: Scale of classifier-free guidance while measuring; None takes the family's usual.
        keep_from: "rest" if keep excludes the forget images, "all" if it is the whole training set
            on purpose (the setting of the paper's lemma).
        drop_overlap: Remove forget images found in keep instead of stopping.
        resize: Crop and resize images to the model's size instead of stopping.
        scheduler: Folder with the scheduler's config, for a bare unet folder.
        save_dtype: Type of the weights in the new model folder.
        evaluation: What is measured before and after.
        reference: A model that was trained without the forget images, measured beside the others;
            or the JSON file of an earlier measurement of one.
        force: Go on although the model does not seem to reproduce the forget images.
        device: Where to run; None takes the best there is.
        tracker: An experiment tracker that accelerate knows (tensorboard, wandb, trackio, ...).
    """

    schedule: Literal["constant", "cosine"] = "cosine"
    gradient_checkpointing: bool = False
    image_size: int | None = None
    guidance: float | None = None
    keep_from: Literal["rest", "all"] = "rest"
    drop_overlap: bool = False
    resize: bool = False
    scheduler: str | None = None
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    evaluation: Evaluation = field(default_factory=Evaluation)
    reference: str | None = None
    force: bool = False
    device: Literal["cpu", "cuda", "mps"] | None = None
    tracker: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if self.drop_overlap and self.keep_from == "all":
            raise ValueError("--drop-overlap and --keep-from all contradict each other")
        require(0 <= self.prompt_dropout < 1, "prompt_dropout must lie in [0, 1)")
        require(self.norms_every_steps >= 1, "norms_every_steps must be at least 1")
        require(self.guidance is None or self.guidance >= 1, "guidance must be at least 1")
        held = self.saliency is not None or self.anchor is not None
        require(
            self.lora is None or not held,
            "saliency and anchor are for the network's own parameters, which an adapter leaves as "
            "they are: leave lora out, or them",
        )
        require(
            not (held and self.shard),
            "saliency and anchor take a whole network: leave shard out, or them",
        )
        require(
            self.lora is None or not self.shard,
            "with an adapter there is little to share out but the network that it leaves as it is: "
            "leave lora or shard out",
        )
        size = self.image_size
        require(size is None or size >= 1, f"image_size must be at least 1, not {size}")
        self.objective.check_combination(self.rule)
        self.training(num_parameters=1)

    def training(self, num_parameters: int, num_images: int = 1) -> Training:
        """The loop's numbers for a network of this size and so many different forget images."""
        shared = {field.name: getattr(self, field.name) for field in fields(Updates)}
        return Training(
            steps=self.steps_for(num_images),
            batch_pairs=self.batch_pairs,
            learning_rate=self.rate_for(num_parameters),
            warmup_steps=self.warmup_steps_for(num_images),
            decay_after=self.decay_after_for(num_images),
            **shared,
        )

    @property
    def overlap(self) -> Literal["error", "drop", "keep"]:
        """What to do about images on both sides."""
        if self.keep_from == "all":
            return "keep"
        return "drop" if self.drop_overlap else "error"


@with_inherited_types
@dataclass(frozen=True, kw_only=True)
class Unlearning(Settings, Locations):
    """Settings of ``dataunlearn unlearn``. Model, forget, keep and out are enough."""

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if Path(self.forget) == Path(self.keep) and self.keep_from != "all":
            raise ValueError("--forget and --keep are the same: nothing would be kept")
        super().__post_init__()


def without_run_place(settings: dict[str, Any]) -> dict[str, Any]:
    """Described settings without those that may change between a run and its resumption."""
    free = (
        *("out", "device", "micro_batch_rows", "checkpoint_every_steps", "tracker", "force"),
        "shard",
    )
    return {key: value for key, value in settings.items() if key not in free}
