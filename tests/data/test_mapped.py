"""Arrays that are too large to be read stay on disk, and give the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dataunlearn.data import archives, arrays, open_images
from dataunlearn.data.arrays import ArrayImages
from dataunlearn.data.digests import DigestTable

SHAPE = (1, 8, 8)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(archives, "MAPPED_FROM_BYTES", 1)
    monkeypatch.setattr(arrays, "MOST_IN_MEMORY", 1000)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "many.npy", pixels)
    return tmp_path / "many.npy"


def test_mapped_pictures_are_those_in_memory(file: Path) -> None:
    """Though what was read is let go of again and again."""
    mapped = open_images(file, SHAPE)
    read = ArrayImages(np.load(file)[:, None], source="many.npy")
    assert isinstance(mapped, ArrayImages)
    assert mapped._mapped is not None
    assert read._mapped is None
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    for indices in (order, order[:7].repeat(3), torch.arange(0)):
        assert torch.equal(mapped.batch(indices), read.batch(indices))
    assert mapped.digests() == read.digests()
    assert np.array_equal(mapped.pixels(299), read.pixels(299))


def test_colours_in_the_last_axis_stay_on_disk_as_well(file: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    np.save(file, pixels)
    mapped = open_images(file, (3, 8, 8))
    read = ArrayImages(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    assert isinstance(mapped, ArrayImages)
    assert mapped._mapped is not None
    order = torch.tensor([49, 0, 7, 7])
    assert torch.equal(mapped.batch(order), read.batch(order))
    assert mapped.digests() == read.digests()


def test_what_is_gathered_can_be_written_to_and_the_file_cannot(file: Path) -> None:
    mapped, before = open_images(file, SHAPE), file.read_bytes()
    mapped.batch(torch.arange(5)).fill_(0)
    assert file.read_bytes() == before
    with pytest.raises(ValueError, match="read-only"):
        mapped.pixels(0)[...] = 0


@pytest.mark.parametrize("damage", ["cut", "objects", "empty"])
def test_a_file_that_cannot_be_mapped_is_refused_as_ever(file: Path, damage: str) -> None:
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "objects":
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    else:
        np.save(file, np.zeros((0, 8, 8), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"cannot be read|no images"):
        open_images(file, SHAPE)


def test_floats_are_rounded_as_in_memory(file: Path) -> None:
    values = np.random.default_rng(1).random((40, 8, 8), dtype=np.float32)
    np.save(file, values)
    expected = np.rint(values * np.float32(255)).astype(np.uint8)
    found = open_images(file, SHAPE)
    assert np.array_equal(found.pixels(17)[0], expected[17])


def test_digests_by_position() -> None:
    table = DigestTable(4)
    assert (len(table), 2 in table) == (0, False)
    table[2] = bytes(range(32))
    assert (len(table), 2 in table, table[2]) == (1, True, bytes(range(32)).hex())
    with pytest.raises(KeyError):
        table[3]
