"""Which files of a folder are pictures, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataunlearn.data import open_images

SHAPE = (3, 8, 8)


def picture(path: Path, seed: int = 0, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, kind)
    return path


def names(folder: Path, role: str = "forget") -> list[str]:
    images = open_images(str(folder), SHAPE, role=role)
    return [str(Path(images.name(i)).relative_to(folder)) for i in range(len(images))]


def test_every_suffix_that_pillow_reads_and_pictures_without_one(tmp_path: Path) -> None:
    kinds = {
        "a.jfif": "JPEG",
        "b.JPE": "JPEG",
        "c.avif": "AVIF",
        "d.jp2": "JPEG2000",
        "e.tga": "TGA",
        "f.ico": "ICO",
        "g": "PNG",
        "h.tmp": "WEBP",
    }
    for name, kind in kinds.items():
        picture(tmp_path / name, kind=kind)
    assert names(tmp_path) == list(kinds)
    assert len(open_images(str(tmp_path / "g"), SHAPE)) == 1


def test_linked_folders_are_searched_once(tmp_path: Path) -> None:
    """A link to a folder inside, one to a folder outside, and one that leads round in a circle."""
    folder = tmp_path / "set"
    picture(folder / "real" / "a.png")
    picture(tmp_path / "outside" / "deep" / "b.png", 1)
    (folder / "again").symlink_to(folder / "real")
    (folder / "more").symlink_to(tmp_path / "outside")
    (folder / "real" / "up").symlink_to(folder)
    (folder / "c.png").symlink_to(tmp_path / "outside" / "deep" / "b.png")
    assert names(folder) == ["c.png", "more/deep/b.png", "real/a.png"]


def test_what_may_be_a_picture_must_be_read_where_it_is_to_be_forgotten(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "c").symlink_to("c")
    (tmp_path / "d.heic").write_bytes(b"\0")
    with pytest.raises(ValueError, match=r"forget images: .*has 3 that cannot be read") as caught:
        names(tmp_path)
    for words in (r"b.png is a link to", "gone.png", "c is a link to c", "d.heic is of a kind"):
        assert words in str(caught.value)
    images = open_images(str(tmp_path), SHAPE, role="keep")
    assert len(images) == 1
    assert "left out 3 that cannot be read (b.png is a link" in images.described()


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / ".b.png")
    for name in ("c.bin", "d.log", "e.md", "f"):
        (tmp_path / name).write_bytes(b"GIF8? no")
    os.mkfifo(tmp_path / "g")
    images = open_images(str(tmp_path), SHAPE, role="forget")
    assert images.described() == (
        "1 images; left out 1 hidden pictures (.b.png); left out 5 files that are no pictures "
        "(c.bin, d.log, e.md and 2 more)"
    )


def test_a_folder_of_other_files_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.bin").touch()
    with pytest.raises(ValueError, match=r"no image files .*; it has a\.bin"):
        names(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "in" / "b.png").parent.chmod(0)
    with pytest.raises(ValueError, match="in is a folder that cannot be read"):
        names(tmp_path)


def test_a_folder_named_by_a_number_is_no_class_of_its_own_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "7" / "a.png")
    assert open_images(str(tmp_path / "7"), SHAPE).label(0) is None
    assert open_images(str(tmp_path), SHAPE).label(0) == 7
