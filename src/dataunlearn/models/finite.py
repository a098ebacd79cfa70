"""Refusing what is not finite: weights when a model is opened, pictures when they are drawn.

NaN is no picture, and no comparison with it is true: counted with the others it would say that
nothing was copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dataunlearn.runtime.checks import require


def require_finite_weights(networks: Mapping[str, nn.Module], source: str) -> None:
    """Refuse networks whose weights hold NaN or infinity.

    Args:
        networks: The networks by the name that a person knows them by.
        source: Where they were loaded from.

    Raises:
        ValueError: Naming the first tensor.
    """
    for part, network in networks.items():
        for name, value in network.state_dict().items():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                continue
            wrong = int((~value.isfinite()).sum())
            require(
                wrong == 0,
                f"{source}: {wrong} of the {value.numel()} numbers of {part}'s tensor {name} are "
                "NaN or infinite: the file is damaged, or training had diverged when it was saved",
            )


def finite_rows(values: Tensor) -> Tensor:
    """Which rows of ``(B, ...)`` hold nothing but finite numbers, ``(B,)`` bool."""
    return values.isfinite().flatten(1).all(1)


def where_not_finite(
    finite: Tensor, timesteps: Sequence[int], numbers: Sequence[int], coded: bool
) -> str | None:
    """In words, which pictures of a batch are not finite, and since when; None if all are.

    Args:
        finite: Whether each was after each timestep, and at last its pixels, ``(S + 1, B)`` bool.
        timesteps: The S timesteps.
        numbers: What each picture is numbered.
        coded: Whether pixels are decoded from latents.
    """
    bad = (~finite).any(0).nonzero().flatten().tolist()
    if not bad:
        return None
    step = int((~finite[:, bad[0]]).nonzero()[0])
    many = f" (and {len(bad) - 1} more of its batch)" if len(bad) > 1 else ""
    which = f"picture {numbers[bad[0]]}{many}"
    if step < len(timesteps):
        return f"the model's prediction for {which} is not finite at timestep {timesteps[step]}"
    part = "the VAE decodes" if coded else "the model draws"
    return f"{part} {which} to pixels that are not finite"


def require_finite_scores(
    scores: Tensor, timesteps: Sequence[int], what: str, source: str
) -> Tensor:
    """Scores ``(N, T)`` of N pictures at T timesteps, if all of them are finite.

    Raises:
        ValueError: Naming the first that is not.
    """
    wrong = (~scores.isfinite()).nonzero()
    if not len(wrong):
        return scores
    row, column = wrong[0].tolist()
    raise ValueError(
        f"{source}: the {what} of picture {row} at timestep {timesteps[column]} is not finite "
        f"({len(wrong)} of {scores.numel()}): what the model predicts there is no number"
    )


def blank_samples(samples: Tensor) -> str | None:
    """In words, that samples ``(N, C, H, W)`` in [-1, 1] show nothing; None if they show something.

    They are blank if every one is of one colour, and alike if no pixel of any differs from the
    same pixel of the others, both up to a grey level.
    """
    if not len(samples):
        return None
    grey_level = 1 / 127.5
    flat = samples.flatten(2)
    count = "the only sample is" if len(samples) == 1 else f"all {len(samples)} samples are"
    if bool((flat.amax(2) - flat.amin(2) <= grey_level).all()):
        return f"the model draws nothing: {count} of one colour"
    apart = samples.amax(0) - samples.amin(0)
    if len(samples) > 1 and float(torch.max(apart)) <= grey_level:
        return f"the model draws nothing of its own: {count} the same picture"
    return None
