"""What a model would say that knows nothing but some pictures: the ideal denoiser of a sample.

It stands in where a model recognises an image through every view: pictures to keep say what the
training data are like without it. Where nearly all is noise that is all there is to be known. Where
little is, a generic denoiser does much better, and the model's own answers through the least
familiar views are one. So the two are mixed by the noise's share of a noisy sample's variance.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dataunlearn.process import ForwardProcess, expand_to


def posterior_mean(process: ForwardProcess, noisy: Tensor, candidates: Tensor, t: Tensor) -> Tensor:
    """The mean of clean samples that ``noisy`` could have been made from, by their likelihood.

    With v_j = (m - gamma x_j)/sigma the noise that m holds if it was made from x_j, this is
    sum_j p_j x_j with p = softmax_j(-|v_j|^2 / 2): the posterior mean if every candidate is as
    likely beforehand. The shares are computed from log ratios in float64.

    Args:
        process: The forward process.
        noisy: Noisy samples m, ``(B, *shape)``.
        candidates: Clean samples x_j for each of them, ``(B, k, *shape)``.
        t: Timesteps ``(B,)``.

    Returns:
        Clean samples ``(B, *shape)`` in ``noisy``'s dtype.
    """
    first = candidates[:, 0]
    log_ratios = [process.log_density_ratio(noisy, x, first, t) for x in candidates.unbind(1)]
    share = torch.stack(log_ratios, dim=1).softmax(dim=1)  # (B, k) float64
    return torch.einsum("bk,bk...->b...", share.to(noisy.dtype), candidates.to(noisy.dtype))


def empirical_prediction(
    process: ForwardProcess, noisy: Tensor, pictures: Tensor, t: Tensor
) -> Tensor:
    """What a model that knows these N pictures ``(N, *shape)`` alone predicts at ``noisy``.

    Args:
        process: The forward process.
        noisy: Noisy samples ``(B, *shape)``.
        pictures: Clean samples, each as likely.
        t: Timesteps ``(B,)``.

    Returns:
        Predictions ``(B, *shape)`` of the process's type.
    """
    candidates = pictures.to(noisy).expand(len(noisy), *pictures.shape)
    return process.target(noisy, posterior_mean(process, noisy, candidates, t), t)


def noise_share(process: ForwardProcess, t: Tensor) -> Tensor:
    """The noise's share of a noisy sample's variance at timesteps ``t (B,)``, float32.

    That of samples whose own variance is 1: sigma² / (gamma² + sigma²).
    """
    noise = process.sigma(t).square()
    return (noise / (noise + process.gamma(t).square())).float()


def mixed(process: ForwardProcess, answers: Tensor, empirical: Tensor, t: Tensor) -> Tensor:
    """A model's answers ``(B, *shape)``, and the empirical predictions by the noise's share."""
    return torch.lerp(answers, empirical.to(answers), expand_to(noise_share(process, t), answers))
