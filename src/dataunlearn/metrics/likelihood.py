"""Exact likelihood of images, in bits per dimension, by the probability-flow ODE.

Song et al. 2021, section 4.3: log p(x) is the density of where the flow takes x, plus the integral
of the divergence on the way, which random signs estimate without bias. Deviations from the paper's
program: time is the noise-to-signal angle's (see :mod:`.models.probability_flow`), timesteps
between two whole ones keep their fraction instead of being rounded down, and the flow starts at the
least noise that the model was trained on (sigma = 0.01 for the usual DDPM schedule) rather than at
time 1e-5. Images are not dequantised unless asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.metrics.inputs import Inputs, Side
from dataunlearn.metrics.intervals import mean_interval, student_interval
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel
from dataunlearn.models.probability_flow import ProbabilityFlow
from dataunlearn.models.sampling import Progress
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import random_stream

Slope = Callable[[Tensor, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]
EIGHT_BIT_OFFSET = 7.0  # log2 of 128 grey levels per unit of [-1, 1]


@dataclass(frozen=True, eq=False)
class BitsPerDim:
    """Bits per dimension of images.

    Attributes:
        bits_per_dim: ``(N,)`` float64; lower is likelier.
        standard_error: ``(N,)``, from the probes; NaN with a single probe.
        evaluations: Calls of the model's velocity and divergence, summed over batches.
    """

    bits_per_dim: Tensor
    standard_error: Tensor = field(repr=False)
    evaluations: int


@dataclass(frozen=True)
class Estimator:
    """How a likelihood is estimated.

    Args:
        num_probes: Independent probes per image, each solved for on its own.
        tolerance: Relative and absolute tolerance of the solver (dopri5, error over the batch).
        dequantise: Add uniform noise of one grey level, as continuous densities of 8-bit data want.
    """

    num_probes: int = 2
    tolerance: float = 1e-4
    dequantise: bool = False


DEFAULT_ESTIMATOR = Estimator()
# Of the small MNIST and emoji models: 86, 134 to 140 and 386 at tolerances of 1e-3, 1e-4 and 1e-5.
USUAL_EVALUATIONS, USUAL_TOLERANCE, TOLERANCE_POWER = 140, 1e-4, 0.35
FEWEST_EVALUATIONS = 56


def bits_per_dim(
    model: DiffusionModel,
    images: Tensor,
    *,
    estimator: Estimator = DEFAULT_ESTIMATOR,
    seed: int = 0,
    batch_size: int = 64,
    cond: Cond | None = None,
    progress: Progress | None = None,
) -> BitsPerDim:
    """Bits per dimension of each image.

    Args:
        model: The model, in eval mode.
        images: ``(N, C, H, W)`` in [-1, 1], N at least 1.
        estimator: How they are estimated.
        seed: Names the probes; those of image i depend on (seed, i) alone.
        batch_size: Images times probes solved for together.
        cond: Class labels ``(N,)``, or None.
        progress: Called with the number of images finished by each batch.

    Raises:
        ValueError: If there are no images, fewer than one probe, or the model works on latents.
    """
    if model.shape != model.image_shape:
        raise ValueError("likelihood is for pixel models: of a latent model it says nothing")
    num_probes = estimator.num_probes
    if not len(images) or num_probes < 1:
        raise ValueError(f"got {len(images)} images and {num_probes} probes; give at least 1 each")
    per_batch = max(1, batch_size // num_probes)
    bits, evaluations = [], 0
    for begin in range(0, len(images), per_batch):
        indices = range(begin, min(begin + per_batch, len(images)))
        batch = images[begin : indices.stop].double()
        signs, grain = draw(model.shape, num_probes, seed, indices)
        if estimator.dequantise:
            batch = batch + grain
        labels = None if cond is None else cond[begin : indices.stop]
        solved = solve(model, batch, signs, estimator.tolerance, labels)
        bits.append(solved.bits_per_dim)
        evaluations += solved.evaluations
        if progress is not None:
            progress(len(indices))
    found = torch.cat(bits)  # (N, P)
    error = torch.full((len(found),), math.nan, dtype=found.dtype)
    if num_probes > 1:
        error = found.std(dim=1) / math.sqrt(num_probes)
    return BitsPerDim(found.mean(dim=1), error, evaluations)


def draw(
    shape: tuple[int, ...], num_probes: int, seed: int, indices: range
) -> tuple[Tensor, Tensor]:
    """Signs ``(N, P, C, H, W)`` and dequantisation noise ``(N, C, H, W)`` of some images."""
    signs, grain = [], []
    for index in indices:
        stream = random_stream(seed, index)
        signs.append(torch.randint(0, 2, (num_probes, *shape), generator=stream) * 2.0 - 1.0)
        grain.append((torch.rand(shape, generator=stream, dtype=torch.float64) - 0.5) / 127.5)
    return torch.stack(signs), torch.stack(grain)


@dataclass(frozen=True, eq=False)
class Solved:
    """One batch: ``bits_per_dim (N, P)`` by probe, and the number of model evaluations."""

    bits_per_dim: Tensor
    evaluations: int


@torch.no_grad()
def solve(
    model: DiffusionModel, batch: Tensor, signs: Tensor, tolerance: float, cond: Cond | None
) -> Solved:
    """Follow images ``(N, C, H, W)`` to noise, once for each of their probes ``(N, P, ...)``."""
    num_images, num_probes = signs.shape[:2]
    device, dtype = model.device, next(model.denoiser.parameters()).dtype
    probes = signs.flatten(0, 1).to(device, dtype)  # (N P, C, H, W)
    labels = None if cond is None else cond.repeat_interleave(num_probes).to(device)
    flow = ProbabilityFlow(model, labels)
    evaluations = 0

    def slope(time: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        nonlocal evaluations
        evaluations += 1
        velocity, divergence = flow.divergence(time, state[0].to(dtype), probes)
        return velocity.to(state[0]), divergence.to(state[1])

    # MPS has no float64; everywhere else the state is kept in it, so that only the model rounds.
    wide = torch.float32 if device.type == "mps" else torch.float64
    start = batch.repeat_interleave(num_probes, dim=0).to(device, wide)
    times = torch.tensor([flow.start, flow.end], dtype=wide, device=device)
    path = followed(model, slope, (start, torch.zeros(len(start)).to(start)), times, tolerance)
    latent, gain = path[0][-1].flatten(1), path[1][-1]
    dims = latent.shape[1]
    prior = -0.5 * (latent.square().sum(1) + dims * math.log(2 * math.pi))
    bits = -(prior + gain) / (dims * math.log(2)) + EIGHT_BIT_OFFSET
    return Solved(bits.reshape(num_images, num_probes).cpu(), evaluations)


def followed(
    model: DiffusionModel,
    slope: Slope,
    start: tuple[Tensor, Tensor],
    times: Tensor,
    tolerance: float,
) -> tuple[Tensor, Tensor]:
    """The path of samples and of the integral of the divergence, at the given times.

    Raises:
        ValueError: If it leads to what is not finite.
    """
    from torchdiffeq import odeint

    where = f"{model.source}: the likelihood's path cannot be followed"
    try:
        path: tuple[Tensor, Tensor] = odeint(
            slope, start, times, rtol=tolerance, atol=tolerance, method="dopri5"
        )
    except AssertionError as error:  # the solver's word for a step that became too small
        raise ValueError(
            f"{where} ({error}): what the model predicts there is not finite, or changes too fast "
            f"for a tolerance of {tolerance}"
        ) from error
    if not all(bool(part.isfinite().all()) for part in path):
        raise ValueError(f"{where}: what the model predicts on its way is not finite")
    return path


def negative_log_likelihood(
    model: DiffusionModel,
    images: Tensor,
    *,
    name: str = "nll",
    estimator: Estimator = DEFAULT_ESTIMATOR,
    **settings: Any,
) -> Result:
    """Mean bits per dimension of images as a :class:`Result`; arguments as :func:`bits_per_dim`.

    The interval is over the images; of a single image it is that of the probes.
    """
    found = bits_per_dim(model, images, estimator=estimator, **settings)
    mean, error = float(found.bits_per_dim.mean()), float(found.standard_error[0])
    interval: tuple[float, float] | None
    if len(images) > 1:
        interval = mean_interval(found.bits_per_dim.numpy())
    else:
        probes = estimator.num_probes
        interval = student_interval(mean, error, probes - 1) if probes > 1 else None
    used = asdict(estimator)
    used |= {key: value for key, value in settings.items() if key not in ("progress", "cond")}
    used |= {"unit": "bits/dim", "evaluations": found.evaluations}
    return Result(name, mean, interval, None, used, found.bits_per_dim)


@dataclass(frozen=True)
class NegativeLogLikelihood(Measure):
    """Bits per dimension of the forget images, and of keep images where they are given.

    Args:
        num_probes: Rademacher probes per image.
        tolerance: Relative and absolute tolerance of the solver.
        num_images: Most images a side.
        dequantise: Add uniform noise of one grey level.
    """

    num_probes: int = 2
    tolerance: float = 1e-4
    num_images: int = 64
    dequantise: bool = False
    needs: ClassVar[tuple[str, ...]] = ("forget",)

    def cost(self, inputs: Inputs) -> Cost:
        """The solver's usual number of evaluations, each there and back for the divergence."""
        images = min(self.num_images, len(inputs.originals))
        images += 0 if inputs.keep is None else min(self.num_images, len(inputs.keep_images))
        usual = USUAL_EVALUATIONS * (USUAL_TOLERANCE / self.tolerance) ** TOLERANCE_POWER
        evaluations = round(max(FEWEST_EVALUATIONS, usual))
        return Cost(trained=images * self.num_probes * evaluations)

    def __call__(self, inputs: Inputs) -> list[Result]:
        """One mean a side."""
        sides: dict[Side, Tensor] = {"forget": inputs.originals[: self.num_images]}
        if inputs.keep is not None:
            sides["keep"] = inputs.keep_images[: self.num_images]
        results = []
        total = sum(len(images) for images in sides.values())
        with progress_bar("likelihood", total, shown=inputs.shown) as advance:
            for side, images in sides.items():
                results.append(
                    negative_log_likelihood(
                        inputs.model,
                        images,
                        name=f"nll_{side}",
                        estimator=Estimator(self.num_probes, self.tolerance, self.dequantise),
                        seed=inputs.seed,
                        batch_size=inputs.batch_size,
                        cond=inputs.conditions(side, len(images)),
                        progress=advance,
                    )
                )
        return results
