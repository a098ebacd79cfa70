"""When more rows would tell nothing more: how many scores a comparison needs.

A comparison of few images in question with many others is as uncertain as the few make it. So
others are scored block by block, until the rest of them would narrow the interval by next to
nothing, and each image's draws of noise are averaged over until they blur it no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dataunlearn.metrics.inputs import Side

Score = Callable[[Side, range, range], Tensor]  # of a side's rows, in some draws of noise
BLOCK = 100  # others scored at a time, and at least: they resolve a false positive rate of 1 %
MOST_NARROWING = 0.02  # what the rest could take off the interval
MOST_BLUR = 0.02  # of the variance between images


def enough_others(members: Tensor, others: Tensor, most: int) -> bool:
    """Whether the AUC's interval is about as narrow as with ``most`` others.

    Its variance is S_members / N + S_others / M, with the variances of how the scores of one side
    are placed among those of the other (DeLong et al. 1988): more others lessen the second part
    alone.

    Args:
        members: Scores ``(N,)`` of the images in question.
        others: Scores ``(M,)`` of as many others as were scored.
        most: How many there are.
    """
    if len(others) >= most:
        return True
    above = (members[:, None] < others).double() + 0.5 * (members[:, None] == others).double()
    by_member, by_other = above.mean(1), above.mean(0)
    part = float(by_member.var()) / len(members) if len(members) > 1 else 0.0
    rest = float(by_other.var()) if len(others) > 1 else math.inf
    now, at_most = part + rest / len(others), part + rest / most
    return now == 0 or math.sqrt(at_most / now) >= 1 - MOST_NARROWING


def enough_draws(scores: Tensor) -> bool:
    """Whether the images' mean scores differ by the images, and hardly by the noise drawn.

    Args:
        scores: Scores ``(J, N)`` of N images in each of J draws, every draw the same noise for all
            images, so that what all of them share in a draw says nothing.
    """
    if len(scores) < 2 or scores.shape[1] < 2:
        return False
    apart = scores - scores.mean(1, keepdim=True)
    blur = float(apart.var(0).mean()) / len(scores)
    between = float(scores.mean(0).var())
    return blur <= MOST_BLUR * max(between - blur, 0.0)


def enough_scores(
    score: Score, most: Mapping[Side, int], most_draws: int
) -> tuple[dict[Side, Tensor], int]:
    """Scores of all images in question, and of as many others and draws as tell something.

    Args:
        score: Gives the scores ``(N, T)`` of some of a side's images, the mean over some draws.
        most: How many images each side has.
        most_draws: Most draws of noise; 1 where the score has none.

    Returns:
        Scores ``(N, T)`` by side, and the number of draws that they are means over.
    """
    rows = {side: range(n if side == "forget" else min(n, BLOCK)) for side, n in most.items()}
    others = [side for side in most if side != "forget"]
    draws: list[dict[Side, Tensor]] = []
    while len(draws) < most_draws:
        number = len(draws)
        draws.append(
            {side: score(side, own, range(number, number + 1)) for side, own in rows.items()}
        )
        if all(
            enough_draws(torch.stack([each[side].mean(1) for each in draws])) for side in others
        ):
            break
    found = {side: torch.stack([each[side] for each in draws]).mean(0) for side in most}
    members = found["forget"].mean(1)
    for side in others:
        while not enough_others(members, found[side].mean(1), most[side]):
            begin = len(found[side])
            block = range(begin, min(begin + BLOCK, most[side]))
            found[side] = torch.cat([found[side], score(side, block, range(len(draws)))])
    return found, len(draws)
