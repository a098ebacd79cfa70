"""What a model would say that knows nothing but some pictures: the ideal denoiser of a sample.

Pictures to keep say what the training data are like without an image. That is needed where the
model's answers through views still know the image: because it looks the same through every view,
or because no other picture is of its kind, so that its views can only be known from itself. Where
nearly all is noise, what pictures to keep say is all there is to be known. Where little is, a
generic denoiser does much better, and the model's answers are one. So the two are mixed by the
noise's share of a noisy sample's variance: by all of it where every answer recognises the image, by
half of it where the answers are of another kind's picture, which are wrong about as much as what
pictures to keep say (measured: docs/results/never_seen.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dataunlearn.process import ForwardProcess, expand_to

# An image is of another kind if it is farther from all keep pictures than this share of them are.
KIND_QUANTILE = 0.99
# How much of the noise's share is theirs for images of another kind.
OF_ANOTHER_KIND = 0.5
# With fewer keep pictures than this there is no telling.
FEWEST_OF_A_KIND = 50


def of_another_kind(images: Tensor, keep: Tensor) -> Tensor:
    """Whether images ``(K, *shape)`` are of a kind that is not among keep pictures, ``(K,)`` bool.

    Whether the nearest of them is farther away than the 99th percentile of how far each keep
    picture ``(N, *shape)`` is from its nearest other one. Pictures that are the same do not count.
    """
    if len(keep) < FEWEST_OF_A_KIND:
        return torch.zeros(len(images), dtype=torch.bool)
    given, others = images.flatten(1).float(), keep.flatten(1).float()
    among = _nearest_other(others, others).double()
    return _nearest_other(given, others).double() > among.quantile(KIND_QUANTILE)


def _nearest_other(images: Tensor, keep: Tensor) -> Tensor:
    """The distance of each image ``(K, D)`` to the nearest different one of ``(N, D)``."""
    apart = torch.cdist(images, keep, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.where(apart > 0, apart, torch.inf).amin(1).cpu()


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
    shares = _likelihoods(process, noisy, pictures, t).softmax(dim=1)  # (B, N) float64
    clean = shares.to(noisy.dtype) @ pictures.to(noisy).flatten(1)
    return process.target(noisy, clean.reshape(noisy.shape), t)


def _likelihoods(process: ForwardProcess, noisy: Tensor, pictures: Tensor, t: Tensor) -> Tensor:
    """Log of q(noisy | picture) for each of N pictures, but for a constant, ``(B, N)`` float64.

    -|m - gamma x|^2 / (2 sigma^2) without its |m|^2, which all pictures share. Products are summed
    in float32: where sigma^2 is so small that this shows, hardly anything of it is mixed in.
    """
    gamma, sigma = process.gamma(t)[:, None], process.sigma(t)[:, None]
    given, flat = noisy.float().flatten(1), pictures.to(noisy.device).float().flatten(1)
    along, squares = (given @ flat.T).double(), flat.square().sum(1).double()
    return (gamma * along - gamma.square() * squares / 2) / sigma.square()


def noise_share(process: ForwardProcess, t: Tensor) -> Tensor:
    """The noise's share of a noisy sample's variance at timesteps ``t (B,)``, float32.

    That of samples whose own variance is 1: sigma² / (gamma² + sigma²).
    """
    noise = process.sigma(t).square()
    return (noise / (noise + process.gamma(t).square())).float()


def mixed(answers: Tensor, empirical: Tensor, share: Tensor) -> Tensor:
    """A model's answers ``(B, *shape)``, and the empirical predictions by a share ``(B,)``."""
    return torch.lerp(answers, empirical.to(answers), expand_to(share, answers))


def keep_weight(unfamiliar: Tensor, images: Tensor, keep: Tensor) -> Tensor:
    """How much of the noise's share is what pictures to keep say, by image, ``(K,)`` float32.

    Args:
        unfamiliar: Which images have views that the model does not recognise, ``(K,)`` bool.
        images: The images, ``(K, *shape)``.
        keep: Pictures to keep, ``(N, *shape)``.
    """
    alone = OF_ANOTHER_KIND * of_another_kind(images, keep).float()
    return torch.where(unfamiliar, alone, 1.0)
