"""Look at many earlier requests at once: those that show nothing need no closer look.

After the fiftieth request the pictures of the 49 before are to be verified again, and one by one
that takes hours. Together their losses are measured with a few draws of noise each, and each is
tried a few times from half of the noise. A request whose pictures never come back, and whose losses
are those of a model that never saw them, is clear; every other one is verified on its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from dataunlearn.data import ImageSet, SubsetImages
from dataunlearn.metrics.never_seen import OverLevel, over_level
from dataunlearn.metrics.pixel_distance import MOST_ORIGINALS, copy_threshold
from dataunlearn.metrics.regeneration import regenerate
from dataunlearn.models.sampling import Drawing
from dataunlearn.recognition.levels import Levels
from dataunlearn.requests.ledger import now
from dataunlearn.requests.records import Request, Verification, Version
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.unlearning.judging import forget_losses, over_level_numbers
from dataunlearn.unlearning.verdict import Memory, MemoryFinding, against_level
from dataunlearn.verification.subject import Subject

SCREEN = "screen"
TRIES = 8  # of each picture
FEWEST = 3  # requests that are looked at together; fewer are verified one by one


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen of all pictures together.

    Attributes:
        levels: The levels of the K different pictures.
        losses: What the model loses on them, ``(K, T, J)``.
        distances: Of each picture's tries to the picture, ``(K, tries)``.
        seconds: What it took.
    """

    levels: Levels
    losses: Tensor
    distances: Tensor
    seconds: float


def groups(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """Requests that are looked at together: as many pictures as are measured at once."""
    group: list[Request] = []
    for request in requests:
        pictures = sum(len(each.pictures) for each in (*group, request))
        if group and pictures > MOST_ORIGINALS:
            yield group
            group = []
        group.append(request)
    if group:
        yield group


def looked_at(subject: Subject) -> Looked:
    """Measure the losses on all pictures of a subject, and try to restore each.

    Args:
        subject: The model with all pictures, and a model that knows them.
    """
    started, job, settings = time.perf_counter(), subject.job, subject.settings
    assert job.levels is not None
    count = len(job.originals)
    drawing = Drawing(
        settings.seed,
        settings.regeneration_steps,
        settings.batch_size,
        cond=job.cond,
        checked=False,
    )
    with progress_bar("earlier requests", count * TRIES, shown=subject.shown) as advance:
        tried = regenerate(
            subject.model,
            job.originals,
            subject.middle,
            copies=count * TRIES,
            threshold=job.threshold,
            drawing=replace(drawing, progress=advance),
        )
    distances = tried.distances.reshape(TRIES, count).T
    losses = forget_losses(job, subject.model)
    return Looked(job.levels, losses, distances, time.perf_counter() - started)


def screened(
    subject: Subject, looked: Looked, version: Version, requests: Sequence[Request]
) -> list[Verification]:
    """The verifications of the requests that are clear; the others are not among them.

    Args:
        subject: What was looked at.
        looked: What was seen.
        version: The version.
        requests: The requests whose pictures these are.
    """
    forget, keep = subject.job.split.forget, subject.job.split.keep
    numbers: dict[str, int] = {}
    for digest in forget.digests():
        numbers.setdefault(digest, len(numbers))
    found = []
    for request in requests:
        rows = sorted(numbers[picture.digest] for picture in request.pictures)
        limit = subject.settings.threshold or copy_threshold(_only(forget, request), keep)
        verified = _clear(looked, rows, limit, version, request, len(requests))
        if verified is not None:
            found.append(verified)
    return found


def _clear(
    looked: Looked, rows: Sequence[int], limit: float, version: Version, request: Request, of: int
) -> Verification | None:
    """A request's verification, if nothing shows that its pictures are known or were pushed."""
    over = over_level(_rows_of(looked.levels, rows), looked.losses[list(rows)])
    distances = looked.distances[list(rows)]
    tries, restored = distances.numel(), int((distances < limit).sum())
    if restored or not bool(distances.isfinite().all()) or not over.timesteps:
        return None
    loss = _loss_finding(over, looked.levels, rows)
    if loss.memory is not Memory.NEVER_SEEN:
        return None
    words = f"none of {tries} tries restores it from half of the noise; {loss.words}"
    facts = {"tries": tries, "restored": restored, "threshold": limit}
    nearest = distances.min().item()
    return Verification(
        *(version.id, request.id, SCREEN, now(), Memory.NEVER_SEEN.value, words),
        {SCREEN: facts | {"nearest": nearest} | over_level_numbers(over)},
        looked.seconds / of,
    )


def _loss_finding(over: OverLevel, levels: Levels, rows: Sequence[int]) -> MemoryFinding:
    return against_level(over, [not levels.unfamiliar[row] for row in rows])


def _rows_of(levels: Levels, rows: Sequence[int]) -> Levels:
    """The levels of some of the pictures."""
    at = list(rows)
    return replace(
        levels,
        chosen=tuple(levels.chosen[row] for row in at),
        unfamiliar=levels.unfamiliar[at],
        before=levels.before[at],
        level=levels.level[at],
        keep_weight=levels.keep_weight[at],
    )


def _only(images: ImageSet, request: Request) -> ImageSet:
    """A request's pictures among all of them."""
    wanted = {picture.digest for picture in request.pictures}
    rows = [row for row, digest in enumerate(images.digests()) if digest in wanted]
    return SubsetImages(images, rows)
