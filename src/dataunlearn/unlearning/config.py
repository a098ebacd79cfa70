"""The complete configuration of an unlearning run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dataunlearn.combine import DEFAULT_RATIO, Combination, NormFix
from dataunlearn.models.lora import Lora
from dataunlearn.objectives import SISS, Objective
from dataunlearn.runtime.checks import require
from dataunlearn.timesteps import Above, TimestepPolicy
from dataunlearn.training.config import Ema, Optimizer, Precision, Training

WARMUP_DIVISOR = 4
Strength = Literal["gentle", "default", "strong"]


@dataclass(frozen=True)
class Dial:
    """What one strength means: steps, the forget gradient's relative length, a rate factor."""

    steps: int
    ratio: float
    rate_factor: float


DIALS: dict[Strength, Dial] = {
    "gentle": Dial(steps=100, ratio=0.2, rate_factor=1.0),
    "default": Dial(steps=180, ratio=DEFAULT_RATIO, rate_factor=1.0),
    "strong": Dial(steps=400, ratio=0.6, rate_factor=1.5),
}


# An adapter takes a higher rate: at 1e-3 it forgets as the whole emoji_sd network does at 5e-5.
LORA_RATE_FACTOR = 20


def default_learning_rate(num_parameters: int) -> float:
    """A rate for a model of this size: 1e-4 up to 1.5 M parameters, falling with the power 0.6.

    Measured on the small MNIST model; within a factor of 2 of the published rates of larger ones:
    2.5e-5 at 14.7 M parameters (published: 5e-5), 7e-6 at 114 M (published: 5e-6).
    """
    return float(1e-4 * min(1.0, (num_parameters / 1.5e6) ** -0.6))


@dataclass(frozen=True)
class StopRule:
    """Stop forgetting once the model no longer restores the forget images.

    Ascending further would only harm the rest. What happens then is up to ``then``: "settle" spends
    the remaining steps on the keep images alone, with the rate falling to 0, which mends what the
    ascent broke; "end" ends the run. The looks go on while the model settles: should an image come
    back, the model forgets again, and then settles towards the keep images themselves.

    Args:
        every_steps: Steps between looks, three times that while settling; 0 never looks.
        then: "settle" or "end".
        regeneration_below: Share of regenerations at which the images count as forgotten.
        timestep: Noise level of the look; None for 45 % of the noise, a little below the half that
            the verdict is about.
        copies: Tries per look.
    """

    every_steps: int = 10
    then: Literal["settle", "end"] = "settle"
    regeneration_below: float = 0.0
    timestep: int | None = None
    copies: int = 16

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.every_steps >= 0, "every_steps must be at least 0")
        require(0 <= self.regeneration_below < 1, "regeneration_below must lie in [0, 1)")
        require(self.copies >= 1, "copies must be at least 1")

    @property
    def settles(self) -> bool:
        """Whether a run can come to settle."""
        return self.every_steps > 0 and self.then == "settle"


@dataclass(frozen=True)
class QualityBudget:
    """End the run once it does more harm than this, so that methods compare at equal damage.

    The model is then that of the last look within the budget. Harm often comes and goes within a
    dozen steps, so a run ends only if it lasts.

    Args:
        loss_increase: Allowed rise of the keep images' denoising loss, as a share of what it was.
        every_steps: Steps between looks.
        patience: Steps that the run may stay above the budget.
        num_images: Keep images looked at.
    """

    loss_increase: float
    every_steps: int = 5
    patience: int = 25
    num_images: int = 128

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.loss_increase > 0, f"loss_increase must be above 0, not {self.loss_increase}")
        require(self.every_steps >= 1, "every_steps must be at least 1")
        require(self.patience >= 0, "patience must be at least 0")
        require(self.num_images >= 1, "num_images must be at least 1")


@dataclass(frozen=True)
class Evaluation:
    """What is measured before and after, and how much of it.

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
    seed: int = 1234

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


@dataclass(frozen=True)
class Unlearning:
    """Settings of ``dataunlearn unlearn``. Model, forget, keep and out are enough.

    Args:
        model: Pipeline folder, bare unet folder, or hub id.
        forget: Image(s) to forget: an image, a folder, .npy, .npz (``file.npz:key``), a saved
            dataset or a dataset id.
        keep: Images that the model should still know, in the same forms; or ``generated:2048`` to
            let the model draw them itself.
        out: Folder for the new model, the report and the log.
        objective: The method, for example ``SISS`` with ``--objective.lam 0.5``.
        combination: How the two gradients are weighed; None takes the objective's own rule.
        strength: One dial over steps, forget ratio and rate.
        steps: Optimizer steps; None takes the dial's.
        learning_rate: None takes one that fits the model's size, 20 times as high for an adapter.
        batch_pairs: Keep/forget pairs per step.
        timesteps: Noise levels to train on: ``Above`` a share of them, ``Uniform``, ``Last``, or
            ``Window`` with lo and hi.
        keep_towards: What the keep side is regressed on: "data" is the method as published,
            "predictions" is what the model predicted for the same noisy pictures before the run,
            which keeps more of it with few steps and few keep images, and costs a forward pass
            more per row and a copy of the model. None takes predictions where the method's own
            rule scales the forget gradient (SISS and its ablations), else data.
        stop: When to stop forgetting, and what to do with the steps that are left.
        budget: End the run at this much harm to the keep images; None for no such limit.
        optimizer: "adamw", "adam", or "adamw8bit" (moments in 8 bits; needs bitsandbytes).
        betas: Decay rates of the optimizer's moments.
        weight_decay: Weight decay.
        clip_norm: Largest length of the combined gradient.
        warmup_steps: Steps of linear warm-up; None takes a quarter of the steps.
        schedule: Learning-rate schedule after it.
        ema: Moving average of the weights, which then becomes the result; None for none.
        micro_batch_rows: Most rows per forward pass; smaller saves memory, nothing else changes.
        precision: Autocast type of the forward pass.
        gradient_checkpointing: Compute activations twice instead of keeping them: less memory, a
            third more time.
        lora: Train a low-rank adapter instead of the network; the run's folder then holds it beside
            the model that it is merged into. None trains the network itself.
        prompt_dropout: Share of pairs that a text-to-image model sees without their prompts, for
            classifier-free guidance.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.
        guidance: Scale of classifier-free guidance while measuring; None takes the family's usual.
        checkpoint_every_steps: Steps between checkpoints.
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
        seed: Names every random draw.
        device: Where to run; None takes the best there is.
        tracker: An experiment tracker that accelerate knows (tensorboard, wandb, trackio, ...).
    """

    model: str
    forget: str
    keep: str
    out: Path
    objective: Objective = field(default_factory=SISS)
    combination: Combination | None = None
    strength: Strength = "default"
    steps: int | None = None
    learning_rate: float | None = None
    batch_pairs: int = 24
    timesteps: TimestepPolicy = field(default_factory=Above)
    keep_towards: Literal["data", "predictions"] | None = None
    stop: StopRule = field(default_factory=StopRule)
    budget: QualityBudget | None = None
    optimizer: Optimizer = "adamw"
    betas: tuple[float, float] = (0.95, 0.999)
    weight_decay: float = 1e-6
    clip_norm: float = 1.0
    warmup_steps: int | None = None
    schedule: Literal["constant", "cosine"] = "cosine"
    ema: Ema | None = None
    micro_batch_rows: int = 64
    precision: Precision = "float32"
    gradient_checkpointing: bool = False
    lora: Lora | None = None
    prompt_dropout: float = 0.0
    image_size: int | None = None
    guidance: float | None = None
    checkpoint_every_steps: int = 25
    keep_from: Literal["rest", "all"] = "rest"
    drop_overlap: bool = False
    resize: bool = False
    scheduler: str | None = None
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    evaluation: Evaluation = field(default_factory=Evaluation)
    reference: str | None = None
    force: bool = False
    seed: int = 0
    device: Literal["cpu", "cuda", "mps"] | None = None
    tracker: str | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without a model."""
        if self.drop_overlap and self.keep_from == "all":
            raise ValueError("--drop-overlap and --keep-from all contradict each other")
        if Path(self.forget) == Path(self.keep) and self.keep_from != "all":
            raise ValueError("--forget and --keep are the same: nothing would be kept")
        require(0 <= self.prompt_dropout < 1, "prompt_dropout must lie in [0, 1)")
        require(self.guidance is None or self.guidance >= 1, "guidance must be at least 1")
        self.objective.check_combination(self.rule)
        self.training(num_parameters=1)

    @property
    def rule(self) -> Combination:
        """The combination rule: the given one, or the objective's own at the dial's strength."""
        rule = self.combination or self.objective.default_combination
        if self.combination is None and isinstance(rule, NormFix):
            return NormFix(ratio=DIALS[self.strength].ratio)
        return rule

    @property
    def has_teacher(self) -> bool:
        """Whether the keep side is regressed on the model's own earlier predictions."""
        if self.keep_towards is None:
            return isinstance(self.objective.default_combination, NormFix)
        return self.keep_towards == "predictions"

    def training(self, num_parameters: int) -> Training:
        """The loop's numbers for a network of this size."""
        dial = DIALS[self.strength]
        rate = self.learning_rate
        if rate is None:
            rate = default_learning_rate(num_parameters) * dial.rate_factor
            rate *= 1 if self.lora is None else LORA_RATE_FACTOR
        steps = dial.steps if self.steps is None else self.steps
        warmup = steps // WARMUP_DIVISOR if self.warmup_steps is None else self.warmup_steps
        return Training(
            steps=steps,
            batch_pairs=self.batch_pairs,
            learning_rate=rate,
            optimizer=self.optimizer,
            betas=self.betas,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            schedule=self.schedule,
            warmup_steps=warmup,
            micro_batch_rows=self.micro_batch_rows,
            precision=self.precision,
            checkpoint_every_steps=self.checkpoint_every_steps,
            seed=self.seed,
            ema=self.ema,
        )

    @property
    def overlap(self) -> Literal["error", "drop", "keep"]:
        """What to do about images on both sides."""
        if self.keep_from == "all":
            return "keep"
        return "drop" if self.drop_overlap else "error"


def without_run_place(settings: dict[str, Any]) -> dict[str, Any]:
    """Described settings without those that may change between a run and its resumption."""
    free = ("out", "device", "micro_batch_rows", "checkpoint_every_steps", "tracker", "force")
    return {key: value for key, value in settings.items() if key not in free}
