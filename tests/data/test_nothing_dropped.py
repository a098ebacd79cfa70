"""Nothing among the pictures to forget is dropped without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataunlearn.data import open_images

SHAPE = (1, 8, 8)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8))


@pytest.mark.parametrize("suffix", ["tif", "gif", "png"])
def test_a_file_of_several_pictures_is_refused_on_the_forget_side(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"many.{suffix}"
    picture(0).save(path, save_all=True, append_images=[picture(1), picture(2)])
    with pytest.raises(ValueError, match="holds 3 pictures: save each as a file"):
        open_images(str(tmp_path), SHAPE, role="forget")
    with pytest.raises(ValueError, match="holds 3 pictures"):
        open_images(str(path), SHAPE, role="forget")


def test_a_camera_s_previews_are_no_further_pictures(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    picture(0).save(path, format="MPO", save_all=True, append_images=[picture(1)])
    assert len(open_images(str(path), SHAPE, role="forget")) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("more.npy", "holds an array: give it by itself"),
        ("more.npz", "holds an array"),
        ("more.zip", "is an archive: unpack it"),
        ("scan.pdf", "is a document"),
        ("film.MP4", "is a film"),
    ],
)
def test_what_may_hold_pictures_is_refused_on_the_forget_side(
    tmp_path: Path, name: str, said: str
) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(ValueError, match=said):
        open_images(str(tmp_path), SHAPE, role="forget")
    kept = open_images(str(tmp_path), SHAPE, role="keep")
    assert len(kept) == 1
    assert name in kept.described()


@pytest.mark.parametrize("name", ["a.txt", "a.png.txt", "a.caption"])
def test_captions_beside_what_a_link_leads_to(tmp_path: Path, name: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "links").mkdir()
    picture(0).save(tmp_path / "real" / "a.png")
    (tmp_path / "real" / name).write_text("a red kite")
    (tmp_path / "links" / "b.png").symlink_to(tmp_path / "real" / "a.png")
    images = open_images(str(tmp_path / "links"), SHAPE, role="forget")
    assert images.caption(0) == "a red kite"
    one = open_images(str(tmp_path / "links" / "b.png"), SHAPE, role="forget")
    assert one.caption(0) == "a red kite"
