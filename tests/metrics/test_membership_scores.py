"""SimA and PIA on a model whose data is Gaussian, where both are known, and against slow loops."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dataunlearn.metrics.membership_scores import pia_scores, sima_scores
from dataunlearn.models import DiffusionModel
from dataunlearn.models.space import PixelSpace
from dataunlearn.prediction import PREDICTION_TYPES
from dataunlearn.process import ForwardProcess, expand_to

SHAPE = (1, 4, 4)
DEVIATIONS = torch.tensor([0.5, 2.0], dtype=torch.float64)  # of the two classes


class GaussianDenoiser(nn.Module):
    """The best denoiser of data N(0, s^2), in any prediction type; s is the class's.

    The mean of z given m = gamma z + sigma eps is gamma s^2 m / (gamma^2 s^2 + sigma^2).
    """

    def __init__(self, process: ForwardProcess) -> None:
        super().__init__()
        self.process = process
        self.anchor = nn.Parameter(torch.zeros(()))
        self.passes = 0

    def forward(self, noisy: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        self.passes += len(noisy)
        variance = DEVIATIONS[cond].square()
        gamma, sigma = self.process.gamma(t), self.process.sigma(t)
        share = gamma * variance / (gamma.square() * variance + sigma.square())
        return self.process.target(noisy, expand_to(share, noisy) * noisy, t)


@pytest.fixture(params=PREDICTION_TYPES)
def model(
    request: pytest.FixtureRequest, make_process: Callable[..., ForwardProcess]
) -> DiffusionModel:
    process = make_process(request.param)
    denoiser = GaussianDenoiser(process)
    return DiffusionModel(None, denoiser, process, SHAPE, SHAPE, PixelSpace(2), "Gaussian")


def draw() -> tuple[Tensor, Tensor]:
    """Five pictures and their classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, *SHAPE, generator=generator, dtype=torch.float64)
    return images, torch.tensor([0, 1, 0, 1, 1])


def noise_share(process: ForwardProcess, t: int, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """gamma, sigma, and the c with E[eps | m] = c m: sigma / (gamma^2 s^2 + sigma^2)."""
    gamma, sigma = process.gamma(torch.tensor([t])), process.sigma(torch.tensor([t]))
    return gamma, sigma, sigma / (gamma.square() * variance + sigma.square())


def test_sima_of_gaussian_data(model: DiffusionModel) -> None:
    """f(x, t) = c_t x, so the score is c_t^4 times the sum of x^4."""
    images, labels = draw()
    found = sima_scores(model, images, (20, 100), batch_size=2, cond=labels)
    quartic = images.pow(4).flatten(1).sum(1)
    shares = [noise_share(model.process, t, DEVIATIONS[labels].square())[2] for t in (20, 100)]
    expected = torch.stack([share.pow(4) * quartic for share in shares], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert model.denoiser.passes == 2 * len(images)  # one a level


def test_pia_of_gaussian_data(model: DiffusionModel) -> None:
    """e = c_0 x, then f(gamma x + sigma e, t) - e = (c_t (gamma + sigma c_0) - c_0) x."""
    images, labels = draw()
    found = pia_scores(model, images, (40, 200), batch_size=2, cond=labels)
    quartic, variance = images.pow(4).flatten(1).sum(1), DEVIATIONS[labels].square()
    first = noise_share(model.process, model.process.first_timestep, variance)[2]
    columns = []
    for t in (40, 200):
        gamma, sigma, share = noise_share(model.process, t, variance)
        columns.append((share * (gamma + sigma * first) - first).pow(4) * quartic)
    torch.testing.assert_close(found, torch.stack(columns, dim=1), rtol=1e-6, atol=0)
    assert model.denoiser.passes == 3 * len(images)  # one a level, and one at no noise


def test_an_image_is_scored_alone(make_model: Callable[..., DiffusionModel]) -> None:
    """A real network, one image at a time, in the papers' own words: it predicts the noise."""
    model = make_model(num_class_embeds=3)
    model.denoiser.eval()
    images = torch.rand(3, 1, 8, 8) * 2 - 1
    labels = torch.tensor([2, 0, 1])
    together = (
        sima_scores(model, images, (50,), cond=labels),
        pia_scores(model, images, (50,), cond=labels),
    )
    alphas = model.pipeline.scheduler.alphas_cumprod
    zero, t = torch.tensor([0]), torch.tensor([50])
    for i, image in enumerate(images):
        label = labels[i : i + 1]
        with torch.no_grad():
            seen = model.denoiser(image[None], t, label)
            first = model.denoiser(image[None], zero, label)
            moved = alphas[50].sqrt() * image[None] + (1 - alphas[50]).sqrt() * first
            again = model.denoiser(moved, t, label)
        assert together[0][i].item() == pytest.approx(float(seen.pow(4).sum()), rel=1e-4)
        assert together[1][i].item() == pytest.approx(float((again - first).pow(4).sum()), rel=1e-3)
