"""SecMI and inversion on a model whose data is Gaussian, and against a slow loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from dataunlearn.metrics.path_scores import (
    inversion_passes,
    inversion_scores,
    secmi_passes,
    secmi_scores,
)
from dataunlearn.models import DiffusionModel
from dataunlearn.models.space import PixelSpace
from dataunlearn.process import ForwardProcess

SHAPE = (1, 4, 4)


class StandardNormal(nn.Module):
    """The best denoiser of data N(0, 1): of m = gamma z + sigma eps the mean of z is gamma m."""

    def __init__(self, process: ForwardProcess) -> None:
        super().__init__()
        self.process = process
        self.anchor = nn.Parameter(torch.zeros(()))
        self.passes = 0

    def forward(self, noisy: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        self.passes += len(noisy)
        gamma = self.process.gamma(t).reshape(-1, 1, 1, 1)
        return self.process.target(noisy, gamma * noisy, t)


@pytest.fixture(params=["epsilon", "sample", "v_prediction"])
def model(
    request: pytest.FixtureRequest, make_process: Callable[..., ForwardProcess]
) -> DiffusionModel:
    process = make_process(request.param)
    denoiser = StandardNormal(process)
    return DiffusionModel(None, denoiser, process, SHAPE, SHAPE, PixelSpace(None), "normal")


def images() -> Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def turn(process: ForwardProcess, start: int, end: int) -> float:
    """What a step of the path multiplies by: gamma gamma' + sigma sigma', a cosine of angles."""
    at = torch.tensor([start, end])
    gamma, sigma = process.gamma(at), process.sigma(at)
    return float(gamma.prod() + sigma.prod())


def test_secmi_of_normal_data(model: DiffusionModel) -> None:
    """Each step multiplies by a cosine c, so forth and back leads from x to c^2 x."""
    given, process = images(), model.process
    assert process.num_train_timesteps == 1000
    found = secmi_scores(model, given, (40, 100), batch_size=2)
    for column, t in enumerate((40, 100)):
        reached = math.prod(turn(process, s, s + 10) for s in range(0, t, 10))
        expected = ((turn(process, t, t + 10) ** 2 - 1) * reached * given).square()
        torch.testing.assert_close(found[:, column], expected.flatten(1).sum(1), rtol=1e-6, atol=0)
    assert model.denoiser.passes == len(given) * secmi_passes(process, (40, 100))
    assert secmi_passes(process, (40, 100)) == 12


def test_inversion_of_normal_data(model: DiffusionModel) -> None:
    given, process = images(), model.process
    found = inversion_scores(model, given, (500, 999), batch_size=2)
    path = sorted({*torch.linspace(0, 999, 21).round().long().tolist(), 500})
    sample = given
    expected = {}
    for start, end in pairwise(path):
        sample = turn(process, start, end) * sample
        gamma, sigma = process.gamma(torch.tensor([end])), process.sigma(torch.tensor([end]))
        expected[end] = ((sample - gamma * given) / sigma).square().flatten(1).sum(1)
    torch.testing.assert_close(found[:, 0], expected[500], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[:, 1], expected[999], rtol=1e-6, atol=0)
    assert model.denoiser.passes == len(given) * inversion_passes(process, (500, 999))


def test_levels_are_rounded_to_whole_intervals_that_exist(model: DiffusionModel) -> None:
    given = images()
    near = secmi_scores(model, given, (42,))
    torch.testing.assert_close(near, secmi_scores(model, given, (40,)))
    highest = secmi_scores(model, given, (999,))
    torch.testing.assert_close(highest, secmi_scores(model, given, (980,)))


def test_flow_matching_goes_from_its_first_timestep(
    make_process: Callable[..., ForwardProcess],
) -> None:
    process = make_process("flow_prediction")
    model = DiffusionModel(
        None, StandardNormal(process), process, SHAPE, SHAPE, PixelSpace(None), "normal"
    )
    given = images()
    assert secmi_scores(model, given, (100,)).isfinite().all()
    assert inversion_scores(model, given, (process.last_timestep,)).isfinite().all()


def test_a_network_and_the_papers_own_words(
    make_model: Callable[..., DiffusionModel],
) -> None:
    """One image at a time through a real network, with the scheduler's own numbers."""
    model = make_model()
    model.denoiser.eval()
    given = torch.rand(2, 1, 8, 8) * 2 - 1
    together = secmi_scores(model, given, (50,))
    alphas = model.pipeline.scheduler.alphas_cumprod

    @torch.no_grad()
    def moved(sample: Tensor, start: int, end: int) -> Tensor:
        noise = model.denoiser(sample, torch.tensor([start]), None)
        clean = (sample - (1 - alphas[start]).sqrt() * noise) / alphas[start].sqrt()
        return alphas[end].sqrt() * clean + (1 - alphas[end]).sqrt() * noise

    for i in range(2):
        sample = given[i : i + 1]
        for t in range(0, 50, 10):
            sample = moved(sample, t, t + 10)
        back = moved(moved(sample, 50, 60), 60, 50)
        expected = float((back - sample).square().sum())
        assert together[i].item() == pytest.approx(expected, rel=1e-3)


def test_a_model_that_diverges_is_an_error(make_model: Callable[..., DiffusionModel]) -> None:
    model = make_model()
    with torch.no_grad():
        next(model.denoiser.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        secmi_scores(model, torch.zeros(1, 1, 8, 8), (50,))
