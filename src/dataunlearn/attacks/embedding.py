"""Optimised embeddings: is there a prompt, in words or not, for which an image comes back?

What was removed for a prompt may still be there for another input of the network (DoRI, arXiv
2507.16880; concepts: Pham et al. 2024, arXiv 2308.01508). The embedding that makes the model
predict best the noise in the image is sought by gradient descent, the weights as they are; then
samples are drawn for it from fresh noise. An embedding has thousands of numbers, so that a good
model can be led to many a picture: the share of copies stands beside that of a model that never saw
the image, or beside pictures that this one never saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.conditioning import TextCond
from dataunlearn.models import DiffusionModel
from dataunlearn.models.latents import text_space
from dataunlearn.models.sampling import Drawing, Progress, generate
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.seeding import random_stream
from dataunlearn.runtime.streams import EMBEDDING_STREAM

FIELD = "prompt"


@dataclass(frozen=True)
class EmbeddingSearch:
    """How an embedding is sought, and how it is tried.

    Args:
        steps: Steps of Adam.
        learning_rate: Of Adam.
        draws: Noise levels and noises a step.
        samples: Samples drawn for what was found.
        sampling_steps: Denoiser calls per sample.
        batch_size: Samples per call.
        seed: Names every random draw.
    """

    steps: int = 100
    learning_rate: float = 0.05
    draws: int = 4
    samples: int = 16
    sampling_steps: int = 25
    batch_size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("steps", "draws", "samples", "sampling_steps", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        require(self.learning_rate > 0, "learning_rate must be above 0")
        require(self.seed >= 0, f"seed must be at least 0, not {self.seed}")

    @property
    def trained(self) -> int:
        """Pictures that go through the model while the embedding is sought."""
        return self.steps * self.draws


@dataclass(frozen=True, eq=False)
class FoundEmbedding:
    """What was found for one image.

    Attributes:
        cond: The prompt with its new embedding, one row on the CPU.
        losses: Mean squared error before each step, ``(steps,)``.
        samples: Samples drawn for it, ``(N, C, H, W)`` in [-1, 1].
    """

    cond: TextCond
    losses: Tensor
    samples: Tensor


def recall(
    model: DiffusionModel,
    image: Tensor,
    start: TextCond,
    settings: EmbeddingSearch,
    *,
    progress: Progress | None = None,
) -> FoundEmbedding:
    """Seek the embedding that calls up an image, and draw samples for it.

    Args:
        model: A text-to-image model, in eval mode.
        image: The image ``(1, C, H, W)`` in [-1, 1].
        start: The prompt to begin at, one row: the image's own, or the empty one.
        settings: How it is sought.
        progress: Called with the number of pictures trained on or drawn.

    Raises:
        ValueError: If the model takes no prompts, or a loss or sample is not finite.
    """
    space = text_space(model)
    clean = space.encode(image.to(model.device))
    given = start.to(model.device)
    embedding = given.fields[FIELD].clone().requires_grad_()
    optimizer = torch.optim.Adam([embedding], lr=settings.learning_rate)
    losses = []
    for step in range(settings.steps):
        cond = TextCond({**given.fields, FIELD: embedding})
        loss = _loss(model, clean, cond, settings, step)
        require(bool(loss.isfinite()), f"{model.source}: the loss of step {step} is not finite")
        (embedding.grad,) = torch.autograd.grad(loss, embedding)
        optimizer.step()
        losses.append(loss.detach().cpu())
        if progress is not None:
            progress(settings.draws)
    found = TextCond({**given.fields, FIELD: embedding.detach()}).to("cpu")
    drawing = Drawing(
        seed=settings.seed,
        num_steps=settings.sampling_steps,
        batch_size=settings.batch_size,
        cond=found,
        progress=progress,
    )
    return FoundEmbedding(found, torch.stack(losses), generate(model, settings.samples, drawing))


def _loss(
    model: DiffusionModel, clean: Tensor, cond: TextCond, settings: EmbeddingSearch, step: int
) -> Tensor:
    """Mean squared error at some noise levels, the same ones for every model at this step."""
    process, stream = model.process, random_stream(settings.seed, EMBEDDING_STREAM, step)
    span = (process.first_timestep, process.last_timestep + 1)
    t = torch.randint(*span, (settings.draws,), generator=stream)
    noise = torch.randn((settings.draws, *model.shape), generator=stream)
    t, noise = t.to(clean.device), noise.to(clean)
    images = clean.expand_as(noise)
    rows = cond.repeat_interleave(settings.draws)
    noisy = process.add_noise(images, noise, t)
    error: Tensor = model.denoiser(noisy, t, rows) - process.target(noisy, images, t)
    return error.square().mean()
