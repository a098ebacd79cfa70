"""The two sides of unlearning: what to forget, what to keep, and how many there were."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

from dataunlearn.data.base import ImageSet
from dataunlearn.data.compose import SubsetImages

Overlap = Literal["error", "drop", "keep"]

_NUM_NAMES = 5


@dataclass(frozen=True)
class Split:
    """A checked pair of keep and forget images.

    Attributes:
        keep: What the model should still know: X without A, or all of X where
            ``keep_contains_forget``.
        forget: What it should forget, A.
        num_train: n, the number of rows of the whole training set X.
        num_forget: k, the number of rows of X that are to be forgotten; copies count.
        overlap: ``(forget name, keep name)`` for every row of the keep side, as it was given, whose
            pixels are also on the forget side.
        keep_contains_forget: Whether the forget images are still among ``keep``.
    """

    keep: ImageSet
    forget: ImageSet
    num_train: int
    num_forget: int
    overlap: tuple[tuple[str, str], ...]
    keep_contains_forget: bool


def split_sets(forget: ImageSet, keep: ImageSet, overlap: Overlap = "error") -> Split:
    """Check that two sets are the two sides of a training set, and count them.

    Pictures are compared by content (shape and pixels), so a copy under another name is found.
    Of each picture the forget side counts as many rows as it has there or, if that is more, on
    the keep side: one T-shirt to forget and 606 of it in the training set are k = 606.

    Args:
        forget: The images to forget, A.
        keep: The images to keep, X without A; or the whole training set X.
        overlap: What to do about pictures on both sides: ``"error"``; ``"drop"`` takes them out of
            the keep side; ``"keep"`` says that ``keep`` is the whole training set X, A included.

    Returns:
        The split. n is keep plus forget rows, or the rows of ``keep`` for ``"keep"``.

    Raises:
        ValueError: If a side is empty, the shapes differ, both sides are the same pictures,
            pictures are on both sides and ``overlap`` is ``"error"``, nothing is left to keep, or
            ``overlap`` is ``"keep"`` and ``keep`` does not contain the forget images.
    """
    _check_sides(forget, keep, overlap)
    forget_names = _first_names(forget)
    keep_digests = keep.digests()
    shared_rows = [row for row, digest in enumerate(keep_digests) if digest in forget_names]
    shared = {keep_digests[row] for row in shared_rows}
    if len(shared_rows) == len(keep) and shared == forget_names.keys():
        raise ValueError(
            f"the forget and the keep images are the same pictures ({forget.name(0)}, ...); give "
            "the images to keep, or the whole training set with --keep-from all"
        )
    pairs = tuple((forget_names[keep_digests[row]], keep.name(row)) for row in shared_rows)
    if pairs and overlap == "error":
        raise ValueError(_describe_overlap(pairs))
    shared_counts = Counter(keep_digests[row] for row in shared_rows)
    num_forget = (Counter(forget.digests()) | shared_counts).total()  # | is the larger of both
    if overlap == "keep":
        _check_contained(forget_names, shared, num_forget, len(keep))
        return Split(keep, forget, len(keep), num_forget, pairs, keep_contains_forget=True)
    kept = _drop(keep, shared_rows) if shared_rows else keep
    num_train = len(kept) + num_forget
    return Split(kept, forget, num_train, num_forget, pairs, keep_contains_forget=False)


def require_unseen(held_out: ImageSet, *seen: ImageSet) -> None:
    """Refuse held-out images that a model was trained on.

    Args:
        held_out: Pictures that no model should have been trained on.
        seen: Those that one was trained on.

    Raises:
        ValueError: If any are the same.
    """
    known = {digest for images in seen for digest in images.digests()}
    wrong = [row for row, digest in enumerate(held_out.digests()) if digest in known]
    if wrong:
        raise ValueError(
            f"{len(wrong)} of the held-out images are among the forget or keep images, as "
            f"{held_out.name(wrong[0])}: they must be pictures that no model was trained on"
        )


def _check_sides(forget: ImageSet, keep: ImageSet, overlap: str) -> None:
    if overlap not in get_args(Overlap):
        raise ValueError(f"overlap must be one of {', '.join(get_args(Overlap))}: {overlap!r}")
    for role, images in (("forget", forget), ("keep", keep)):
        if len(images) == 0:
            raise ValueError(f"there are no {role} images; give at least one")
    if forget.shape != keep.shape:
        raise ValueError(
            f"forget images are {forget.shape}, keep images {keep.shape}; open both with the "
            "model's shape"
        )


def _first_names(images: ImageSet) -> dict[str, str]:
    """For each digest the name of the first picture that has it."""
    names: dict[str, str] = {}
    for index, digest in enumerate(images.digests()):
        if digest not in names:
            names[digest] = images.name(index)
    return names


def _describe_overlap(pairs: tuple[tuple[str, str], ...]) -> str:
    shown = [f"  {forget} = {keep}" for forget, keep in pairs[:_NUM_NAMES]]
    if len(pairs) > _NUM_NAMES:
        shown.append(f"  and {len(pairs) - _NUM_NAMES} more")
    listed = "\n".join(shown)
    return (
        f"{len(pairs)} keep images are also to be forgotten (forget = keep):\n{listed}\n"
        "pass --drop-overlap to take them out of the keep images, or --keep-from all if the keep "
        "images are the whole training set"
    )


def _check_contained(
    forget_names: dict[str, str], shared: set[str], num_forget: int, num_train: int
) -> None:
    missing = [name for digest, name in forget_names.items() if digest not in shared]
    if missing:
        raise ValueError(
            "--keep-from all takes the keep images as the whole training set, but "
            f"{len(missing)} forget images are not in it ({', '.join(missing[:_NUM_NAMES])}); add "
            "them, or leave out --keep-from all"
        )
    if num_forget >= num_train:
        raise ValueError(
            f"{num_forget} forget images are not fewer than the training set's {num_train}; with "
            "--keep-from all the keep images must be the whole training set"
        )


def _drop(keep: ImageSet, rows: list[int]) -> SubsetImages:
    dropped = set(rows)
    left = [row for row in range(len(keep)) if row not in dropped]
    if not left:
        raise ValueError(
            "every keep image is also to be forgotten, so --drop-overlap leaves nothing to keep; "
            "give further images to keep"
        )
    return SubsetImages(keep, left)
