"""Captions of folders, archives and datasets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataunlearn.data import ConcatImages, SubsetImages, open_images

SHAPE = (3, 8, 8)


def save_images(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)


def captions(images) -> list[str | None]:
    return [images.caption(index) for index in range(len(images))]


class TestFolders:
    def test_metadata_names_files_in_any_order_and_in_subfolders(self, tmp_path: Path) -> None:
        save_images(tmp_path, ["a.png", "b.png", "in/c.png"])
        lines = [
            {"file_name": "in/c.png", "text": "third"},
            {"file_name": "a.png", "caption": "first"},
        ]
        (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
        assert captions(open_images(str(tmp_path), SHAPE)) == ["first", None, "third"]

    def test_text_files_beside_the_images(self, tmp_path: Path) -> None:
        save_images(tmp_path, ["a.png", "b.png"])
        (tmp_path / "b.txt").write_text("  ein Bär \n", encoding="utf-8")
        assert captions(open_images(str(tmp_path), SHAPE)) == [None, "ein Bär"]

    def test_no_captions_at_all(self, tmp_path: Path) -> None:
        save_images(tmp_path, ["a.png"])
        images = open_images(str(tmp_path), SHAPE)
        assert captions(images) == [None]
        assert images.different_captions() == []

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("not json", "line 1 is no JSON"),
            ('{"file_name": "a.png"}', "one of text, caption, prompt"),
            ('{"file_name": "a.png", "text": 3}', "both texts"),
            ('{"text": "x"}', "needs a file_name"),
            ('["a.png", "x"]', "line 1: .* is no JSON object"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path: Path, line: str, words: str) -> None:
        save_images(tmp_path, ["a.png"])
        (tmp_path / "metadata.jsonl").write_text(line)
        with pytest.raises(ValueError, match=words):
            open_images(str(tmp_path), SHAPE)

    def test_two_kinds_of_captions_are_refused(self, tmp_path: Path) -> None:
        save_images(tmp_path, ["a.png"])
        (tmp_path / "a.txt").write_text("one")
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "other"}')
        with pytest.raises(ValueError, match="remove one kind"):
            open_images(str(tmp_path), SHAPE)


class TestOtherSources:
    def test_archives_take_the_arrays_own_captions_first(self, tmp_path: Path) -> None:
        pixels = np.zeros((2, 8, 8, 3), np.uint8)
        file = tmp_path / "set.npz"
        np.savez(
            file,
            x=pixels,
            y2=pixels + 1,
            captions=np.array(["a", "b"]),
            y2_captions=np.array(["c", "d"]),
        )
        assert captions(open_images(f"{file}:x", SHAPE)) == ["a", "b"]
        assert captions(open_images(f"{file}:y2", SHAPE)) == ["c", "d"]
        assert captions(open_images(f"{file}:y2[1]", SHAPE)) == ["d"]

    def test_datasets_have_a_text_column(self, tmp_path: Path) -> None:
        import datasets

        pictures = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(2)]
        table = datasets.Dataset.from_dict(
            {"image": pictures, "text": ["a", None]},
            features=datasets.Features(
                {"image": datasets.Image(), "text": datasets.Value("string")}
            ),
        )
        table.save_to_disk(tmp_path / "saved")
        assert captions(open_images(str(tmp_path / "saved"), SHAPE)) == ["a", None]

    def test_subsets_and_concatenations_keep_them(self, tmp_path: Path) -> None:
        save_images(tmp_path, ["a.png", "b.png"])
        (tmp_path / "a.txt").write_text("one")
        (tmp_path / "b.txt").write_text("two")
        images = open_images(str(tmp_path), SHAPE)
        both = ConcatImages([SubsetImages(images, [1, 1]), images])
        assert captions(both) == ["two", "two", "one", "two"]
        assert both.different_captions() == ["two", "one"]
