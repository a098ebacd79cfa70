"""A run's inputs, loaded and checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dataunlearn.combine import Combination
from dataunlearn.conditioning import Cond
from dataunlearn.data import ImageSet, Split, split_sets
from dataunlearn.data.opening import ImageSource
from dataunlearn.data.prompt import Prompt
from dataunlearn.metrics.pixel_distance import MOST_ORIGINALS, copy_threshold, distinct_indices
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.base import set_guidance
from dataunlearn.models.latents import TextSpace
from dataunlearn.models.lora import add_lora, network_of
from dataunlearn.models.parts import make_trainable
from dataunlearn.models.pictures import open_for
from dataunlearn.objectives import NaiveDeletion, Objective
from dataunlearn.recognition.levels import Levels
from dataunlearn.runtime.settings import describe
from dataunlearn.timesteps import TimestepPolicy, Uniform
from dataunlearn.training.config import Training
from dataunlearn.training.pairs import PairSampler, PromptPairSampler, shares_prompts
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.unlearning.config import Settings, Unlearning
from dataunlearn.unlearning.generated_keep import generated_count, generated_images
from dataunlearn.unlearning.reference import Reference, open_reference
from dataunlearn.unlearning.sources import Sources

# Share of the pull to forget that a method with an aim settles with.
HOLDING = 0.125


@dataclass(frozen=True, eq=False)
class Job:
    """A run whose inputs were all checked.

    Attributes:
        config: The settings; of a run from files an ``Unlearning``, which also names these.
        sources: Where the pictures come from.
        model: The model, which the run changes in place.
        split: Keep and forget images.
        originals: The different forget images that are measured, ``(K, C, H, W)`` in [-1, 1], at
            most 64.
        cond: Their class labels or prompts, or None.
        threshold: Pixel distance below which an image counts as a copy.
        training: The loop's numbers.
        combination: The rule, with the data's counts filled in.
        reference: A model that never saw the forget images, or None.
        levels: What the model is predicted to lose on the different forget images had it never
            seen them; None until measured.
        prepared: The objective with what it found out about this run; None until then.
        anchored_to: The model that an anchor draws parameters to; None for the model as it begins.
    """

    config: Settings
    sources: Sources
    model: DiffusionModel
    split: Split
    originals: Tensor
    cond: Cond | None
    threshold: float
    training: Training
    combination: Combination
    reference: Reference | None = None
    levels: Levels | None = None
    prepared: Objective | None = None
    anchored_to: DiffusionModel | None = None

    @property
    def objective(self) -> Objective:
        """What makes rows of pairs: prepared, if that was done."""
        return self.prepared or self.config.objective

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as JSON values, with where model and pictures come from."""
        described: dict[str, Any] = describe(self.config)
        sources = {"forget": self.sources.forget, "keep": self.sources.keep}
        return described | {"model": self.model.source} | sources

    @property
    def pictures(self) -> list[str]:
        """What was read of either side and what was left out, a line each."""
        sides = (("forget", self.split.forget), ("keep", self.split.keep))
        return [f"{name}: {images.described()}" for name, images in sides if images.remarks]

    def conditions_for(self, model: DiffusionModel) -> Cond | None:
        """Labels or prompts of the originals, as another model encodes them; None without any."""
        return model.space.conditions(self.split.forget, measured_rows(self.split))

    @property
    def prompts(self) -> list[Prompt]:
        """What samples are asked for: the forget images' prompts; empty without any."""
        return self.model.space.asked_for(self.split.forget)

    def sampler(self, timesteps: TimestepPolicy) -> PairSampler:
        """Pairs of keep and forget images at noise levels of this policy.

        Where every prompt to forget has keep images of its own, pairs share their prompt.
        """
        keep, forget = self.split.keep, self.split.forget
        prompts = isinstance(self.model.space, TextSpace) and shares_prompts(keep, forget)
        kind = PromptPairSampler if prompts else PairSampler
        return kind(keep, forget, self.model.process, **self._draws(timesteps))

    def keep_sampler(self, images: ImageSet) -> PairSampler:
        """Further pictures to keep, drawn as the job's own are."""
        return PairSampler(
            images, None, self.model.process, **self._draws(self.config.noise_levels)
        )

    def _draws(self, timesteps: TimestepPolicy) -> dict[str, Any]:
        """How a sampler draws its pairs."""
        return {
            "batch_pairs": self.config.batch_pairs,
            "timesteps": timesteps,
            "seed": self.config.seed,
            "space": self.model.space,
            "prompt_dropout": self.config.prompt_dropout,
        }

    def phases(self, extra_parts: Sequence[StepPart] = ()) -> list[Phase]:
        """What steps train on: forgetting first, then what the model settles on.

        After a method that ascends, settling is on the keep images alone, first towards the frozen
        model's predictions at all noise levels, if the keep side is held to them: forgetting leaves
        its mark at levels that it does not train on, too. Where those predictions bring a forget
        image back, the model forgets again, and then settles towards the keep images themselves.

        After a method with an aim, settling goes on with both sides, and pulls to forget with
        ``HOLDING`` times the force: keep images recover within some dozen steps, while what was
        forgotten comes back slowly. With such a method, noise levels at which no forget image is
        recognised are always held to the keep images themselves: there the frozen model's
        predictions lean towards forget images for no other reason than that these were among what
        it learnt from, often many times over.

        Args:
            extra_parts: What joins every step, whatever the phase.
        """
        keeps = self.config.keeps_predictions
        own = StepPart(
            self.sampler(self.config.noise_levels), self.objective, keep_predictions=keeps
        )
        every = self.config.norms_every_steps
        forgetting = Phase(self._parts(own, extra_parts, keeps), self.combination, every)
        if not self.config.stop.settles:
            return [forgetting]
        if self.config.is_aimed:
            return [forgetting, replace(forgetting, combination=self.combination.eased(HOLDING))]
        on_data = self._keep_alone(self.config.noise_levels, extra_parts, predictions=False)
        if not keeps:
            return [forgetting, on_data]
        on_predictions = self._keep_alone(Uniform(), extra_parts, predictions=True)
        return [forgetting, on_predictions, on_data]

    def _keep_alone(
        self, timesteps: TimestepPolicy, extra_parts: Sequence[StepPart], *, predictions: bool
    ) -> Phase:
        own = StepPart(self.sampler(timesteps), NaiveDeletion())
        parts = self._parts(own, extra_parts, predictions)
        return Phase(parts, NaiveDeletion.default_combination)

    def _parts(self, own: StepPart, extra: Sequence[StepPart], predictions: bool) -> list[StepPart]:
        """A phase's parts, all of which keep to the same."""
        below = self.levels.recognised_below if self.levels and self.config.is_aimed else None
        return [
            replace(part, keep_predictions=predictions, predictions_below=below)
            for part in (own, *extra)
        ]


def prepare(config: Unlearning, *, device: str | torch.device = "cpu", shown: bool = True) -> Job:
    """Load and check everything that the settings name; nothing is trained or written.

    Args:
        config: The settings.
        device: Where to put the model.
        shown: Whether to draw progress.

    Raises:
        ValueError: On anything that does not fit, before any work.
    """
    generated_count(config.keep)  # a slip in it is told before the model is loaded
    model = load_model(
        config.model, scheduler=config.scheduler, image_size=config.image_size, device=device
    )
    return prepare_with(model, config, config.forget, config.keep, shown=shown)


def prepare_with(
    model: DiffusionModel,
    config: Settings,
    forget: ImageSource,
    keep: ImageSource,
    *,
    shown: bool = True,
) -> Job:
    """Open and check the pictures of a run on a loaded model; nothing is trained or written.

    Args:
        model: The model, which gets what the settings say: guidance, an adapter.
        config: The settings.
        forget: Images to forget, in any form that ``open_images`` takes.
        keep: Images to keep, likewise; or ``generated:2048``.
        shown: Whether to draw progress.

    Raises:
        ValueError: On anything that does not fit, before any work.
    """
    count = generated_count(keep) if isinstance(keep, str) else None
    set_up_model(model, config)
    reference = None
    if config.reference is not None:
        reference = open_reference(config.reference, model, config.image_size)
    forget_set = open_for(model, forget, resize=config.resize, role="forget")
    if count is None:
        keep_set = open_for(model, keep, resize=config.resize, role="keep")
    else:
        keep_set = generated_images(model, forget_set, count, seed=config.seed, shown=shown)
    job = check_job(config, model, forget_set, keep_set, Sources.of(forget, keep))
    return replace(job, reference=reference)


def measured_rows(split: Split) -> Tensor:
    """Positions of the different forget images that are measured, ``(K,)``."""
    return torch.tensor(distinct_indices(split.forget, MOST_ORIGINALS))


def set_up_model(model: DiffusionModel, config: Settings) -> None:
    """Prepare a model for training and measuring as the settings say.

    Raises:
        ValueError: If it lacks what a setting is about.
    """
    model.denoiser.eval()
    set_guidance(model, config.guidance)
    make_trainable(network_of(model))
    if config.lora is not None:
        add_lora(model, config.lora, config.seed)
    if config.gradient_checkpointing:
        network_of(model).enable_gradient_checkpointing()


def check_job(
    config: Settings, model: DiffusionModel, forget: ImageSet, keep: ImageSet, sources: Sources
) -> Job:
    """Check that data, model and settings fit each other.

    Raises:
        ValueError: If they do not.
    """
    split = split_sets(forget, keep, config.overlap)
    levels = config.evaluation.regeneration_timesteps
    model.process.check_timesteps(levels, "evaluation.regeneration_timesteps")
    if config.stop.timestep is not None:
        model.process.check_timesteps([config.stop.timestep], "stop.timestep")
    picked, num_images = measured_rows(split), len(distinct_indices(split.forget))
    job = Job(
        config,
        sources,
        model,
        split,
        split.forget.batch(picked),
        model.space.conditions(split.forget, picked),
        config.evaluation.threshold or copy_threshold(split.forget, split.keep),
        config.training(model.num_parameters, num_images),
        config.rule_for(num_images).with_counts(split.num_train, split.num_forget),
    )
    job.phases()  # samplers check labels, prompts and noise levels when they are made
    return job
