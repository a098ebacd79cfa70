"""Captions in the forms that other programs write: read, or refused with what was found."""

from __future__ import annotations

import json
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from dataunlearn.data import open_images

SHAPE = (3, 8, 8)
ROWS = [{"file_name": "a.png", "text": "a red, kite"}, {"file_name": "b.png", "text": "blue"}]
READ = ["a red, kite", "blue"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures in ``in/``, below a folder of their own."""
    (tmp_path / "root" / "in").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.png")):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "root" / "in" / name)
    return tmp_path / "root" / "in"


def captions(source: object) -> list[str | None]:
    images = open_images(str(source), SHAPE)
    return [images.caption(index) for index in range(len(images))]


def json_lines(rows: list[dict[str, object]], encoding: str = "utf-8") -> bytes:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return text.encode(encoding)


def tables() -> dict[str, bytes]:
    by_name = {str(row["file_name"]): row["text"] for row in ROWS}
    return {
        "metadata.csv": b'file_name,text\na.png,"a red, kite"\nb.png,blue\n',
        "metadata.tsv": b"File_Name\tCaption\na.png\ta red, kite\nb.png\tblue\n",
        "captions.csv": b"image;caption\na.png;a red, kite\nb.png;blue\n",
        "captions.json": json.dumps(by_name).encode(),
        "Captions.JSON": json.dumps({name: [text] for name, text in by_name.items()}).encode(),
        "metadata.json": json.dumps(ROWS).encode(),
        "captions.jsonl": json_lines(ROWS, "utf-8-sig"),
        "metadata.jsonl": json_lines(ROWS, "utf-16"),
    }


@pytest.mark.parametrize("name", tables())
def test_tables_in_the_folder(folder: Path, name: str) -> None:
    (folder / name).write_bytes(tables()[name])
    assert captions(folder) == READ


def test_a_parquet_table(folder: Path) -> None:
    table = {"file_name": ["a.png", "b.png"], "en_text": [b"a red, kite", b"blue"]}
    datasets.Dataset.from_dict(table).to_parquet(folder / "metadata.parquet")
    assert captions(folder) == READ


@pytest.mark.parametrize("suffix", [".txt", ".TXT", ".caption", ".png.txt", ".png.caption"])
def test_texts_beside(folder: Path, suffix: str) -> None:
    for name, text in zip("ab", READ, strict=True):
        (folder / f"{name}{suffix}").write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n")
    assert captions(folder) == READ
    assert captions(folder / "b.png") == ["blue"]


def test_tables_in_other_folders(folder: Path) -> None:
    """In the folder below the one opened, or above it; a Windows path is a path."""
    (folder / "metadata.jsonl").write_bytes(json_lines(ROWS))
    assert captions(folder.parent) == READ
    assert captions(folder / "a.png") == READ[:1]
    (folder / "metadata.jsonl").unlink()
    for path in ("in/", "in\\", "./in/"):
        rows = [{**row, "file_name": f"{path}{row['file_name']}"} for row in ROWS]
        (folder.parent / "metadata.jsonl").write_bytes(json_lines(rows))
        assert captions(folder) == captions(folder.parent) == READ


def test_the_parents_table_may_be_about_other_pictures(folder: Path) -> None:
    (folder.parent / "metadata.jsonl").write_bytes(json_lines(ROWS))
    with pytest.warns(UserWarning, match=r"names none of these pictures, so it was not used"):
        assert captions(folder) == [None, None]


def test_letters_are_compared_not_their_bytes(folder: Path) -> None:
    composed, taken_apart = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    (folder / "a.png").rename(folder / taken_apart)
    rows = [{"file_name": composed, "text": "one\u2028line\x85only"}]
    (folder / "metadata.jsonl").write_bytes(json_lines(rows))
    assert "one\u2028line\x85only" in captions(folder)


def test_what_was_read_and_left_out_is_said(folder: Path) -> None:
    rows = [{"file_name": "a.png", "text": ["one", "two"]}, {"file_name": "c.png", "text": "x"}]
    (folder / "metadata.jsonl").write_bytes(json_lines(rows))
    (folder / "notes.txt").write_text("none of the pictures'")
    said = open_images(str(folder), SHAPE).described()
    assert said == (
        "2 images; 1 of 2 have captions, from metadata.jsonl; 1 have several captions, of which "
        "the first counts; 1 of 2 entries of metadata.jsonl name no picture (c.png); not used as "
        "captions: notes.txt"
    )


def test_text_files_that_nothing_came_of_are_warned_of(folder: Path) -> None:
    (folder / "0.txt").write_text("a kite")
    with pytest.warns(UserWarning, match=r"not used as captions: 0\.txt"):
        assert captions(folder) == [None, None]


def test_models_that_take_no_prompts_do_not_mind_captions(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"caf\xe9")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "boxes": [1, 2]}')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = open_images(str(folder), SHAPE, captions=False)
    assert images.caption(0) is None
    assert images.remarks == ("left out 2 files that are no pictures (a.txt, metadata.jsonl)",)


TWICE = [*ROWS, {"file_name": "./a.png", "text": "another"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", json_lines([{"file_name": "x.png", "text": "t"}]), r"x\.png.*a\.png, b"),
        ("metadata.jsonl", json_lines(TWICE), "twice, as 'a red, kite' and as 'another'"),
        ("captions.json", b'{"a.png": "one", "a.png": "two"}', "'a.png' is given twice"),
        ("captions.json", b"[" * 100_000, "nested more than 100 levels"),
        ("captions.json", b'{"a.png": 3}', "is 3, no text"),
        ("captions.json", b'{"a.png": "\\ud800"}', "half of a character"),
        ("metadata.csv", b"file_name,text\na.png,a red, kite\n", "line 2 has 3 values for 2"),
        ("metadata.csv", b"file_name,bbox\na.png,3\n", "needs a file_name and one of text"),
        ("metadata.csv", b"file_name,text\na.png,\xff\n", "save it as UTF-8"),
        ("metadata.csv", b"file_name,en_text,de_text\na.png,x,y\n", "several columns"),
        ("metadata.parquet", b"no table", "is no parquet file"),
        ("a.txt", b"\x00\x01", "holds zero bytes"),
    ],
)
def test_what_cannot_be_used_is_named(
    folder: Path, name: str, content: bytes, message: str
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_images(str(folder), SHAPE)


def archive(tmp_path: Path, **arrays: np.ndarray) -> Path:
    file = tmp_path / "set.npz"
    np.savez(file, images=np.zeros((2, 8, 8, 3), np.uint8), **arrays)
    return file


@pytest.mark.parametrize("key", ["captions", "text", "prompt", "en_captions", "images_captions"])
def test_texts_of_archives(tmp_path: Path, key: str) -> None:
    assert captions(archive(tmp_path, **{key: np.array(["ä", "b"])})) == ["ä", "b"]
    assert captions(archive(tmp_path, **{key: np.array(["ä".encode(), b"b"])})) == ["ä", "b"]


def test_wrong_texts_of_archives(tmp_path: Path) -> None:
    for wrong in (np.array(["a", "b", "c"]), np.array([1, 2]), np.array([["a"], ["b"]])):
        with pytest.raises(ValueError, match="not one text for each of the 2 pictures"):
            captions(archive(tmp_path, captions=wrong))
    file = archive(tmp_path, captions=np.array(list("abc")), x2=np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.warns(UserWarning, match="as long as another array"):
        assert captions(f"{file}:images") == [None, None]


def saved(tmp_path: Path, column: str, values: list[object]) -> Path:
    pictures = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(len(values))]
    table = datasets.Dataset.from_dict({"image": pictures, column: values})
    table.cast_column("image", datasets.Image()).save_to_disk(tmp_path / column)
    return tmp_path / column


CASES: dict[str, Callable[[str], object]] = {
    "en_text": str,
    "TEXT": str,
    "captions": lambda text: [text, "another"],
    "blipCaption": str.encode,
}


@pytest.mark.parametrize("column", CASES)
def test_columns_of_datasets(tmp_path: Path, column: str) -> None:
    values = [CASES[column](text) for text in READ]
    assert captions(saved(tmp_path, column, values)) == READ


def test_datasets_without_captions_are_warned_of(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no captions: .* has columns title"):
        assert captions(saved(tmp_path, "title", ["a", "b"])) == [None, None]
