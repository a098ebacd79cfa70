"""A request's pictures: found again by content, refused where they changed, copied if asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataunlearn.data import open_images
from dataunlearn.models import DiffusionModel
from dataunlearn.requests.duplicates import near_duplicates
from dataunlearn.requests.pictures import copied, found_again, lasting_source, named_pictures
from dataunlearn.requests.records import Project, Request
from dataunlearn.requests.schema import LedgerError

SHAPE = (1, 8, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three different pictures, one of them twice."""
    place = tmp_path / "pictures"
    place.mkdir()
    for number in (0, 1, 2):
        save(place / f"{number}.png", random_pixels(number))
    save(place / "again.png", random_pixels(0))
    return place


def random_pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def request_for(folder: Path) -> Request:
    pictures = named_pictures(open_images(str(folder), SHAPE))
    return Request(1, "letter", "", "2026-11-01", "", str(folder), pictures)


def test_each_different_picture_is_named_once(folder: Path) -> None:
    pictures = request_for(folder).pictures
    assert [Path(picture.name).name for picture in pictures] == ["0.png", "1.png", "2.png"]
    assert len({picture.file_sha256 for picture in pictures}) == 3


def test_found_again_with_their_copies_and_nothing_else(
    folder: Path, make_model: Callable[..., DiffusionModel]
) -> None:
    request = request_for(folder)
    save(folder / "new.png", random_pixels(7))
    found = found_again(make_model(), Project("m", "", "k"), request)
    assert sorted(Path(found.name(i)).name for i in range(len(found))) == [
        "0.png",
        "1.png",
        "2.png",
        "again.png",
    ]


@pytest.mark.parametrize("how", ["removed", "altered"])
def test_a_changed_picture_is_refused_by_name(
    folder: Path, make_model: Callable[..., DiffusionModel], how: str
) -> None:
    request = request_for(folder)
    (folder / "1.png").unlink()
    if how == "altered":
        save(folder / "1.png", random_pixels(9))
    with pytest.raises(LedgerError, match=r"request 1 \(letter\): .*1\.png of "):
        found_again(make_model(), Project("m", "", "k"), request)


def test_copies_have_the_same_pixels_and_captions(folder: Path, tmp_path: Path) -> None:
    for name in ("0", "1", "2", "again"):
        (folder / f"{name}.txt").write_text(f"caption of {name}")
    images = open_images(str(folder), SHAPE)
    place = copied(images, tmp_path / "project")
    assert place.startswith("./pictures/")
    again = open_images(str(tmp_path / "project" / place), SHAPE)
    assert {p.digest for p in named_pictures(again)} == {p.digest for p in named_pictures(images)}
    assert again.caption(0) == "caption of 0"
    assert copied(images, tmp_path / "project") == place  # once more over itself


def test_copies_keep_classes(tmp_path: Path) -> None:
    for label in (3, 5):
        (tmp_path / "given" / str(label)).mkdir(parents=True)
        save(tmp_path / "given" / str(label) / "a.png", random_pixels(label))
    images = open_images(str(tmp_path / "given"), SHAPE)
    again = open_images(str(tmp_path / "project" / copied(images, tmp_path / "project")), SHAPE)
    assert [again.label(row) for row in range(2)] == [3, 5]


def test_sources_hold_from_any_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", first=np.zeros((1, 8, 8), np.uint8))
    assert lasting_source("pictures") == str(folder)
    assert lasting_source("a.npz:first[0]") == f"{tmp_path}/a.npz:first[0]"
    assert lasting_source("someone/pictures") == "someone/pictures"
    assert lasting_source("generated:8") == "generated:8"


def test_near_duplicates_are_found_however_turned() -> None:
    forget = open_images(random_pixels(0)[None], SHAPE)
    near = np.clip(random_pixels(0).astype(int) + 3, 0, 255).astype(np.uint8)
    keep = [random_pixels(seed) for seed in range(1, 30)]
    given = np.stack([near, near[:, ::-1], random_pixels(0), np.rot90(near), *keep])
    found = near_duplicates(forget, open_images(given, SHAPE), shown=False)
    assert [(each.row, each.view) for each in found] == [
        (0, "as it is"),
        (1, "mirrored"),
        (3, "quarter turn left"),
    ]
    assert all(each.distance < each.limit for each in found)


def test_other_pictures_are_no_near_duplicates() -> None:
    forget = open_images(random_pixels(0)[None], SHAPE)
    given = np.stack([random_pixels(seed) for seed in range(1, 40)])
    assert near_duplicates(forget, open_images(given, SHAPE), shown=False) == []
    assert torch.isfinite(forget.batch(torch.tensor([0]))).all()


def test_a_name_that_no_table_can_show_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    save(tmp_path / "odd" / "a\nb.png", random_pixels(0))
    with pytest.raises(LedgerError, match="rename it"):
        named_pictures(open_images(str(tmp_path / "odd"), SHAPE))
