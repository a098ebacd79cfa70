from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataunlearn.data import ArrayImages, ConcatImages, SubsetImages, open_images, split_sets

SHAPE = (1, 4, 4)


def pictures(*values: int, source: str = "array") -> ArrayImages:
    """One flat picture for each grey value: equal values are equal pictures."""
    rows = [np.full(SHAPE, value, np.uint8) for value in values]
    return ArrayImages(np.stack(rows), source=source)


def test_disjoint_sides_add_up() -> None:
    keep, forget = pictures(1, 2, 3, 4), pictures(8, 9)
    split = split_sets(forget, keep)
    assert split.keep is keep and split.forget is forget
    assert (split.num_train, split.num_forget) == (6, 2)
    assert split.overlap == () and not split.keep_contains_forget
    with pytest.raises(FrozenInstanceError):
        split.num_train = 7  # type: ignore[misc]


def test_copies_count() -> None:
    split = split_sets(SubsetImages(pictures(9), [0] * 606), pictures(1, 2, 3))
    assert (split.num_train, split.num_forget) == (609, 606)


def test_overlap_is_an_error_with_five_pairs_and_both_ways_out() -> None:
    keep = pictures(*range(20), source="keep")
    forget = pictures(*range(3, 10), source="forget")
    with pytest.raises(ValueError) as caught:
        split_sets(forget, keep)
    message = str(caught.value)
    assert "7 keep images" in message and "and 2 more" in message
    assert message.count(" = keep[") == 5
    assert "forget[0] = keep[3]" in message
    assert "--drop-overlap" in message and "--keep-from all" in message


def test_drop_takes_them_out() -> None:
    keep, forget = pictures(1, 9, 2, 8, source="keep"), pictures(8, 9, 7, source="forget")
    split = split_sets(forget, keep, "drop")
    assert [split.keep.name(index) for index in range(2)] == ["keep[0]", "keep[2]"]
    assert len(split.keep) == 2
    assert split.overlap == (("forget[1]", "keep[1]"), ("forget[0]", "keep[3]"))
    assert (split.num_train, split.num_forget) == (5, 3)
    assert not split.keep_contains_forget
    assert not set(split.keep.digests()) & set(split.forget.digests())


def test_drop_counts_the_copies_it_takes_out() -> None:
    """The training set has n = 5 rows, of which k = 3 are the picture to forget."""
    split = split_sets(pictures(9), pictures(1, 9, 9, 2, 9), "drop")
    assert (split.num_train, split.num_forget, len(split.keep)) == (5, 3, 2)


def test_drop_leaving_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing to keep"):
        split_sets(pictures(7, 8, 9), pictures(8, 9), "drop")


def test_drop_without_overlap_changes_nothing() -> None:
    keep = pictures(1, 2)
    assert split_sets(pictures(9), keep, "drop").keep is keep


def test_keep_leaves_them_in_and_counts_the_larger_number_of_copies() -> None:
    keep = pictures(1, 9, 2, 9, 9, 3)
    once = split_sets(pictures(9), keep, "keep")
    assert once.keep is keep and once.keep_contains_forget
    assert (once.num_train, once.num_forget) == (6, 3)
    assert len(once.overlap) == 3
    more = split_sets(pictures(9, 9, 9, 9), keep, "keep")
    assert (more.num_train, more.num_forget) == (6, 4)


def test_keep_needs_the_whole_training_set() -> None:
    with pytest.raises(ValueError, match=r"1 forget images are not in it \(lost\[1\]\)"):
        split_sets(pictures(1, 9, source="lost"), pictures(1, 2, 3), "keep")
    with pytest.raises(ValueError, match="not fewer than the training set's 3"):
        split_sets(pictures(1, 1, 1, 1), pictures(1, 2, 3), "keep")


@pytest.mark.parametrize("overlap", ["error", "drop", "keep"])
def test_the_same_pictures_on_both_sides_are_an_error(overlap: str, tmp_path: Path) -> None:
    Image.new("L", (4, 4), 7).save(tmp_path / "a.png")
    Image.new("L", (4, 4), 8).save(tmp_path / "b.png")
    forget, keep = (open_images(tmp_path, SHAPE, role=role) for role in ("forget", "keep"))
    shuffled = pictures(8, 7, 8)
    for other in (keep, shuffled, forget):
        with pytest.raises(ValueError, match="same pictures"):
            split_sets(forget, other, overlap)  # type: ignore[arg-type]


def test_overlap_is_found_by_content_across_sources(tmp_path: Path) -> None:
    """The same pixels as PNG, as RGB bitmap and in an array are one picture."""
    Image.new("L", (4, 4), 7).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (8, 8, 8)).save(tmp_path / "b.bmp")
    forget = open_images(tmp_path, SHAPE, role="forget")
    split = split_sets(forget, ConcatImages([pictures(1, 8), pictures(7)]), "drop")
    assert [Path(name).name for name, _ in split.overlap] == ["b.bmp", "a.png"]
    assert (len(split.keep), split.num_train) == (1, 3)


def test_bad_arguments() -> None:
    some, none = pictures(1), SubsetImages(pictures(1), [])
    with pytest.raises(ValueError, match="no forget images"):
        split_sets(none, some)
    with pytest.raises(ValueError, match="no keep images"):
        split_sets(some, none)
    with pytest.raises(ValueError, match="model's shape"):
        split_sets(some, ArrayImages(np.zeros((1, 3, 4, 4), np.uint8)))
    with pytest.raises(ValueError, match="error, drop, keep"):
        split_sets(some, pictures(2), "ignore")  # type: ignore[arg-type]
