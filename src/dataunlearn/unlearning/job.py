"""A run's inputs, loaded and checked before any work."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dataunlearn.combine import Combination
from dataunlearn.conditioning import Cond
from dataunlearn.data import ImageSet, Split, open_images, split_sets
from dataunlearn.data.opening import ImageSource
from dataunlearn.metrics.copies import copy_threshold, distinct_indices
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.base import set_guidance
from dataunlearn.models.latents import TextSpace
from dataunlearn.models.lora import add_lora, network_of
from dataunlearn.models.teacher import WithoutLora, frozen_copy
from dataunlearn.objectives import NaiveDeletion
from dataunlearn.timesteps import TimestepPolicy, Uniform
from dataunlearn.training.config import Training
from dataunlearn.training.pairs import PairSampler, PromptPairSampler, shares_prompts
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.unlearning.config import Unlearning
from dataunlearn.unlearning.generated_keep import generated_count, generated_images
from dataunlearn.unlearning.reference import Reference, open_reference


@dataclass(frozen=True, eq=False)
class Job:
    """A run whose inputs were all checked.

    Attributes:
        config: The settings.
        model: The model, which the run changes in place.
        split: Keep and forget images.
        originals: The different forget images, ``(K, C, H, W)`` in [-1, 1].
        cond: Their class labels, or None.
        threshold: Pixel distance below which an image counts as a copy.
        training: The loop's numbers.
        combination: The rule, with the data's counts filled in.
        reference: A model that never saw the forget images, or None.
    """

    config: Unlearning
    model: DiffusionModel
    split: Split
    originals: Tensor
    cond: Cond | None
    threshold: float
    training: Training
    combination: Combination
    reference: Reference | None = None

    def sampler(self, timesteps: TimestepPolicy) -> PairSampler:
        """Pairs of keep and forget images at noise levels of this policy.

        Where every prompt to forget has keep images of its own, pairs share their prompt.
        """
        keep, forget = self.split.keep, self.split.forget
        prompts = isinstance(self.model.space, TextSpace) and shares_prompts(keep, forget)
        return (PromptPairSampler if prompts else PairSampler)(
            keep,
            forget,
            self.model.process,
            batch_pairs=self.config.batch_pairs,
            timesteps=timesteps,
            seed=self.config.seed,
            space=self.model.space,
            prompt_dropout=self.config.prompt_dropout,
        )

    @property
    def parts(self) -> list[StepPart]:
        """What every step trains on."""
        return [StepPart(self.sampler(self.config.timesteps), self.config.objective)]

    def teacher(self) -> nn.Module | None:
        """A frozen copy of the model as it is now for the keep side, if the settings want one."""
        if not self.config.has_teacher:
            return None
        if self.config.lora is not None:
            return WithoutLora(self.model.denoiser, network_of(self.model))
        return frozen_copy(self.model.denoiser)

    def forgetting(self, teacher: nn.Module | None) -> Phase:
        """What steps train on until the images are forgotten: the objective's two sides."""
        return Phase(self.parts, self.combination, teacher)

    def settling(self, teacher: nn.Module | None) -> list[Phase]:
        """What steps train on once the images are forgotten: the keep images alone.

        First towards the teacher's predictions at all noise levels, if there is one: forgetting
        leaves its mark at levels that it does not train on, too. Where those predictions bring a
        forget image back, towards the keep images themselves.
        """
        if not self.config.stop.settles:
            return []
        on_data = self._keep_alone(self.config.timesteps)
        if teacher is None:
            return [on_data]
        return [replace(self._keep_alone(Uniform()), teacher=teacher), on_data]

    def _keep_alone(self, timesteps: TimestepPolicy) -> Phase:
        parts = [StepPart(self.sampler(timesteps), NaiveDeletion())]
        return Phase(parts, NaiveDeletion.default_combination)


def prepare(
    config: Unlearning,
    *,
    model: DiffusionModel | None = None,
    forget: ImageSource | None = None,
    keep: ImageSource | None = None,
    device: str | torch.device = "cpu",
    shown: bool = True,
) -> Job:
    """Load and check everything; nothing is trained or written.

    Args:
        config: The settings.
        model: A loaded model in place of ``config.model``.
        forget: Images in memory in place of ``config.forget``.
        keep: Likewise for ``config.keep``.
        device: Where to put a model that is loaded here.
        shown: Whether to draw progress.

    Raises:
        ValueError: On anything that does not fit, before any work.
    """
    count = generated_count(config.keep) if keep is None else None
    if model is None:
        model = load_model(
            config.model, scheduler=config.scheduler, image_size=config.image_size, device=device
        )
    set_up_model(model, config)
    forget_set = open_images(
        config.forget if forget is None else forget,
        model.image_shape,
        resize=config.resize,
        role="forget",
    )
    if count is None:
        keep_set = open_images(
            config.keep if keep is None else keep,
            model.image_shape,
            resize=config.resize,
            role="keep",
        )
    else:
        keep_set = generated_images(model, forget_set, count, seed=config.seed, shown=shown)
    return check_job(config, model, forget_set, keep_set)


def set_up_model(model: DiffusionModel, config: Unlearning) -> None:
    """Prepare a model for training and measuring as the settings say.

    Raises:
        ValueError: If it lacks what a setting is about.
    """
    model.denoiser.eval()
    set_guidance(model, config.guidance)
    if config.lora is not None:
        add_lora(model, config.lora, config.seed)
    if config.gradient_checkpointing:
        network_of(model).enable_gradient_checkpointing()


def check_job(config: Unlearning, model: DiffusionModel, forget: ImageSet, keep: ImageSet) -> Job:
    """Check that data, model and settings fit each other."""
    split = split_sets(forget, keep, config.overlap)
    levels = config.evaluation.regeneration_timesteps
    model.process.check_timesteps(levels, "evaluation.regeneration_timesteps")
    if config.stop.timestep is not None:
        model.process.check_timesteps([config.stop.timestep], "stop.timestep")
    picked = torch.tensor(distinct_indices(split.forget))
    job = Job(
        config,
        model,
        split,
        split.forget.batch(picked),
        model.space.conditions(split.forget, picked),
        config.evaluation.threshold or copy_threshold(split.forget, split.keep),
        config.training(model.num_parameters),
        config.rule.with_counts(split.num_train, split.num_forget),
        open_reference(config.reference, model, model.device) if config.reference else None,
    )
    job.parts[0].sampler(0)  # labels and timesteps are checked by drawing once
    return job
