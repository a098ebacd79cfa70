"""Modified prompts: embeddings near a memorised prompt's that no longer call up its picture.

Wen et al. 2024 ("Detecting, Explaining, and Mitigating Memorization in Diffusion Models", ICLR,
section 4): the prompt embedding is optimised until the text-noise norm at the first sampling step
(:mod:`dataunlearn.metrics.text_noise`) falls to a target. Alberti et al. 2025 unlearn Stable
Diffusion under such prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.conditioning import TextCond
from dataunlearn.metrics.text_noise import noise_distance, noisiest_timestep
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.latents import encoded_prompts, text_space
from dataunlearn.models.sampling import noise_for

TARGET_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class ModifiedPrompt:
    """What became of a prompt.

    Attributes:
        cond: The prompt with its new embedding, one row on the CPU. A ``TextSpace`` takes it under
            a name of its own in ``given``; ``prompts.embeddings`` writes its field ``prompt``.
        norms: Text-noise norm before each step and after the last one, in units of noise.
        reached: Whether the last one is at the target or below.
    """

    cond: TextCond
    norms: tuple[float, ...]
    reached: bool


@dataclass(frozen=True)
class PromptOptimiser:
    """Optimises a prompt's embedding with AdamW until its text-noise norm is small.

    The norm is that at the noisiest timestep of :func:`noisiest_timestep`, averaged over a few
    draws of pure noise, the same ones at every step. Only the field ``prompt`` changes: pooled
    prompts and sizes stay, and so do the model's weights. Where a model sees a pooled prompt too,
    that part of the norm stays as well, and the target may be out of reach.

    Args:
        learning_rate: Of AdamW, otherwise as torch has it (weight decay 0.01).
        max_steps: Most steps.
        target: Norm to reach, in units of noise; for Stable Diffusion 1 usually 1 to 1.8. None for
            half of the norm that the prompt starts with: this rule is ours, for other models.
        draws: Draws of noise.
        seed: Names them.
    """

    learning_rate: float = 0.05
    max_steps: int = 15
    target: float | None = None
    draws: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.learning_rate <= 0 or self.max_steps < 1 or self.draws < 1:
            raise ValueError(f"{self}: learning rate, steps and draws must be above 0")
        if self.target is not None and self.target <= 0:
            raise ValueError(f"target is {self.target}: give a norm above 0, or None")

    def __call__(self, model: DiffusionModel, prompt: str) -> ModifiedPrompt:
        """Optimise the embedding of ``prompt``.

        Args:
            model: A text-to-image model, in eval mode.
            prompt: The text.

        Raises:
            ValueError: If the model takes no prompts.
        """
        cond = encoded_prompts(model, [prompt]).to(model.device)
        pairs = self._without_prompt(model)
        embedding = cond.fields["prompt"].clone().requires_grad_()
        given = TextCond({**cond.fields, "prompt": embedding})
        optimizer = torch.optim.AdamW([embedding], lr=self.learning_rate)
        norms: list[float] = []
        while True:
            norm, gradient = _norm_and_gradient(model, pairs, given)
            norms.append(norm)
            target = TARGET_SHARE * norms[0] if self.target is None else self.target
            if norm <= target or len(norms) > self.max_steps:
                break
            embedding.grad = gradient
            optimizer.step()
        found = TextCond({**cond.fields, "prompt": embedding.detach()})
        return ModifiedPrompt(found.to("cpu"), tuple(norms), norms[-1] <= target)

    @torch.no_grad()
    def _without_prompt(self, model: DiffusionModel) -> list[tuple[Tensor, Tensor]]:
        """Draws of noise ``(1, *shape)``, each with the prediction for no prompt."""
        nothing = text_space(model).nothing(1).to(model.device)
        t = _timestep(model)
        draws = noise_for(model.shape, self.seed, range(self.draws)).to(model.device)
        return [(noise, model.denoiser(noise, t, nothing)) for noise in torch.split(draws, 1)]


def _timestep(model: DiffusionModel) -> Tensor:
    return torch.tensor([noisiest_timestep(model.process)], device=model.device)


def _norm_and_gradient(
    model: DiffusionModel, pairs: list[tuple[Tensor, Tensor]], given: TextCond
) -> tuple[float, Tensor]:
    """The norm, and its gradient by the embedding; draw by draw, which bounds the memory."""
    embedding, t = given.fields["prompt"], _timestep(model)
    total, gradient = 0.0, torch.zeros_like(embedding)
    for noise, without in pairs:
        prediction = model.denoiser(noise, t, given)
        norm = noise_distance(model.process, prediction, without, t).mean() / len(pairs)
        gradient += torch.autograd.grad(norm, embedding)[0]
        total += float(norm.detach())
    return total, gradient
