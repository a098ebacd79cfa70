"""How scores of images in question compare with those of images that a model never saw."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataunlearn.metrics.intervals import mean_of_pairs_bootstrap, wilson
from dataunlearn.metrics.result import Result

FALSE_POSITIVE_RATE = 0.01
TAIL = 0.025  # of the others' scores, on either side of the central 95 %


def membership_auc(
    members: Tensor, others: Tensor, *, name: str = "membership_auc", seed: int = 0
) -> Result:
    """Area under the ROC curve of "a lower score means member"; 0.5 is chance.

    Args:
        members: Scores ``(N,)`` of the images in question, at least 1.
        others: Scores ``(M,)`` of held-out images, at least 1.
        name: Name of the result.
        seed: Seed of the bootstrap.

    Returns:
        The AUC with its bootstrap interval (members and others resampled apart); ``per_item``
        holds for each member the share of others whose score is higher, ties counted half.

    Raises:
        ValueError: If a side is empty or not finite.
    """
    inside, outside = _checked(members, others)
    # The AUC is the share of pairs in which the member's score is the lower one (Mann and Whitney
    # 1947), and so is that of a resample, whose pairs are pairs of these.
    above = (inside[:, None] < outside) + 0.5 * (inside[:, None] == outside)
    low, high = mean_of_pairs_bootstrap(above, seed=seed)
    interval = (max(low, 0.0), min(high, 1.0))  # sums of rounded numbers leave the range
    settings = {"num_members": len(inside), "num_others": len(outside)}
    by_member = torch.from_numpy(above.mean(1))
    return Result(name, float(above.mean()), interval, False, settings, by_member)


def membership_tpr(
    members: Tensor,
    others: Tensor,
    *,
    name: str = "membership_tpr",
    fpr: float = FALSE_POSITIVE_RATE,
) -> Result:
    """Share of members found when at most ``fpr`` of the others are taken for members.

    Carlini et al. 2022 ask for this instead of the AUC: an attack counts if it is sure of a few.

    Args:
        members: Scores ``(N,)`` of the images in question, at least 1.
        others: Scores ``(M,)`` of held-out images; fewer than 1 / fpr cannot resolve the rate, and
            then none may be taken for a member.
        name: Name of the result.
        fpr: The largest share of others taken for members.

    Returns:
        The share with its Wilson interval; ``per_item`` tells which members were found.

    Raises:
        ValueError: If a side is empty or not finite.
    """
    from sklearn.metrics import roc_curve

    inside, outside = _checked(members, others)
    labels = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))])
    rates, _, thresholds = roc_curve(
        labels, -np.concatenate([inside, outside]), drop_intermediate=False
    )
    cut = -thresholds[rates <= fpr][-1]  # the largest score that still counts as a member's
    found = inside <= cut
    value = float(found.mean())
    settings = {"num_members": len(inside), "num_others": len(outside), "fpr": fpr}
    interval = wilson(int(found.sum()), len(inside))
    return Result(name, value, interval, False, settings, torch.from_numpy(found))


def membership_outside(
    members: Tensor,
    others: Tensor,
    tail: Literal["below", "above"],
    *,
    name: str = "membership_outside",
) -> Result:
    """Share of members whose score lies below, or above, the central 95 % of the others'.

    An image counts if, were it one of the others, a score as far out would have a probability of at
    most 2.5 %: (1 + number of others as far out) / (1 + number of others), ties against it. That
    is exact for exchangeable scores, and fewer than 39 others therefore resolve nothing.

    Args:
        members: Scores ``(N,)`` of the images in question, at least 1.
        others: Scores ``(M,)`` of held-out images, at least 1.
        tail: "below", where members lie, or "above", where forgetting too hard puts them.
        name: Name of the result.

    Returns:
        The share with its Wilson interval; ``per_item`` tells which members lie outside.

    Raises:
        ValueError: If a side is empty or not finite.
    """
    inside, outside = _checked(members, others)
    sign = 1 if tail == "below" else -1
    as_far = (sign * outside <= sign * inside[:, None]).sum(1)
    found = (1 + as_far) / (1 + len(outside)) <= TAIL
    settings = {"num_members": len(inside), "num_others": len(outside), "tail": TAIL}
    interval = wilson(int(found.sum()), len(inside))
    return Result(name, float(found.mean()), interval, False, settings, torch.from_numpy(found))


def _checked(members: Tensor, others: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    if not len(members) or not len(others):
        raise ValueError(
            f"got scores of {len(members)} members and {len(others)} other images; give both"
        )
    if not (members.isfinite().all() and others.isfinite().all()):
        raise ValueError("scores are not finite: the model diverged on some images")
    return members.double().numpy(), others.double().numpy()
