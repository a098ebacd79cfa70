"""Files that were decoded before are known again, and only as long as they are the same."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataunlearn.data import files, known_files, open_images
from dataunlearn.data.base import ImageSet, Pixels
from dataunlearn.data.files import FileImages

SHAPE = (1, 8, 8)
COUNT = 6


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six pictures of an hour ago, which are many here."""
    monkeypatch.setattr(files, "CACHED_FROM", COUNT)
    monkeypatch.setattr(files, "cache_file", lambda: tmp_path / "cache" / "digests.sqlite")
    monkeypatch.setattr(known_files, "SETTLED_NS", 0)
    place = tmp_path / "pictures"
    place.mkdir()
    for index in range(COUNT):
        save(place / f"{index}.png", index)
    return place


def save(path: Path, seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 256, SHAPE[1:], dtype=np.uint8)
    Image.fromarray(drawn).save(path)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that were decoded."""
    names: list[str] = []
    pixels = FileImages.pixels

    def noted(self: FileImages, index: int) -> Pixels:
        names.append(Path(self.name(index)).name)
        return pixels(self, index)

    monkeypatch.setattr(FileImages, "pixels", noted)
    return names


def opened(folder: Path, *, role: str = "keep", resize: bool = False) -> ImageSet:
    return open_images(folder, SHAPE, role=role, resize=resize)


def test_the_second_time_nothing_is_decoded(folder: Path, decoded: list[str]) -> None:
    first = opened(folder).digests()
    assert sorted(decoded) == sorted(path.name for path in folder.iterdir())
    decoded.clear()
    assert opened(folder).digests() == first
    assert decoded == []


def test_a_changed_file_is_decoded_even_if_its_size_and_time_are_as_before(
    folder: Path, decoded: list[str]
) -> None:
    before = opened(folder).digests()
    decoded.clear()
    path = folder / "3.png"
    status, other = path.stat(), (folder / "4.png").read_bytes()
    path.write_bytes(other[: status.st_size].ljust(status.st_size, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    after = opened(folder).digests()
    assert decoded == ["3.png"]
    assert [b == a for b, a in zip(before, after, strict=True)] == [i != 3 for i in range(COUNT)]


def test_what_was_just_written_is_not_trusted(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_files, "SETTLED_NS", 3600 * 10**9)
    opened(folder)
    opened(folder)
    assert len(decoded) == 2 * COUNT


@pytest.mark.parametrize("role", ["forget", "without"])
def test_of_pictures_to_forget_nothing_is_kept(
    folder: Path, decoded: list[str], role: str, tmp_path: Path
) -> None:
    opened(folder, role=role)
    assert not (tmp_path / "cache").exists()
    opened(folder)  # as pictures to keep they are
    opened(folder, role=role)
    assert len(decoded) == 3 * COUNT


def test_other_pixels_of_the_same_file_are_another_entry(folder: Path, decoded: list[str]) -> None:
    small = open_images(folder, (1, 4, 4), resize=True).digests()
    assert opened(folder).digests() != small
    assert len(decoded) == 2 * COUNT
    assert open_images(folder, (1, 4, 4), resize=True).digests() == small
    assert len(decoded) == 2 * COUNT


def test_a_damaged_picture_is_refused_as_often_as_it_is_opened(
    folder: Path, decoded: list[str]
) -> None:
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"2\.png"):
            opened(folder)


def test_a_cache_that_is_none_is_done_without(
    folder: Path, decoded: list[str], tmp_path: Path
) -> None:
    place = tmp_path / "cache"
    place.mkdir()
    (place / "digests.sqlite").write_bytes(b"something else" * 100)
    assert len(set(opened(folder).digests())) == COUNT
    opened(folder)
    assert len(decoded) == 2 * COUNT
    assert (place / "digests.sqlite").read_bytes() == b"something else" * 100


def test_a_damaged_entry_is_decoded_again(folder: Path, decoded: list[str], tmp_path: Path) -> None:
    right = opened(folder).digests()
    decoded.clear()
    database = sqlite3.connect(tmp_path / "cache" / "digests.sqlite")
    with database:
        keys = [key for (key,) in database.execute("SELECT key FROM digests")]
        digest = database.execute("SELECT digest FROM digests WHERE key = ?", keys[:1]).fetchone()
        wrong = bytes([digest[0][0] ^ 1]) + digest[0][1:]
        database.execute("UPDATE digests SET digest = ? WHERE key = ?", (wrong, keys[0]))
    database.close()
    assert opened(folder).digests() == right
    assert len(decoded) == 1


def test_neither_paths_nor_pictures_are_kept_and_old_entries_go(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(folder)
    file = tmp_path / "cache" / "digests.sqlite"
    assert str(folder).encode() not in file.read_bytes()
    assert b"png" not in file.read_bytes()
    later = time.time() + 100 * known_files.DAY
    monkeypatch.setattr(known_files.time, "time", lambda: later)
    monkeypatch.setattr(known_files.time, "time_ns", lambda: int(later * 10**9))
    save(folder / "0.png", 99)
    opened(folder)
    count = sqlite3.connect(file).execute("SELECT COUNT(*) FROM digests").fetchone()[0]
    assert count == COUNT  # all were in use; the one that was replaced is gone


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(known_files.os.path, "expanduser", lambda path: path)
    assert known_files.cache_file() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert known_files.cache_file() == Path("/somewhere/dataunlearn/digests.sqlite")
