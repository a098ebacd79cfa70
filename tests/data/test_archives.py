"""Array files that are damaged, encrypted, or hold something else: a message that names them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dataunlearn.base_models.captioned import read_texts
from dataunlearn.data import open_images

SHAPE = (1, 8, 8)


def member(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


GOOD = member(np.zeros((2, 8, 8), np.uint8))


def archive(folder: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "set.npz"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("images.npy", content)
    return path


def changed(path: Path, find: bytes, offset: int, value: int) -> Path:
    """Overwrite a byte in every header that begins so."""
    content, at = bytearray(path.read_bytes()), -1
    while (at := content.find(find, at + 1)) >= 0:
        content[at + offset] = value
    path.write_bytes(bytes(content))
    return path


def wrong_archive(folder: Path, kind: str) -> Path:
    path = archive(folder, GOOD)
    if kind == "encrypted":
        return changed(changed(path, b"PK\3\4", 6, 1), b"PK\1\2", 8, 1)
    if kind == "unknown compression":
        return changed(changed(path, b"PK\3\4", 8, 99), b"PK\1\2", 10, 99)
    if kind == "damaged":
        return changed(path, b"\x93NUMPY", 90, 7)
    if kind == "cut short":
        path.write_bytes(path.read_bytes()[:-40])
        return path
    contents = {
        "raw bytes": b"\x00\x01" * 64,
        "empty": b"",
        "cut inside": GOOD[:-20],
        "version from the future": GOOD[:6] + b"\x09" + GOOD[7:],
    }
    return archive(folder, contents[kind])


KINDS = (
    *("encrypted", "unknown compression", "damaged", "cut short", "raw bytes", "empty"),
    *("cut inside", "version from the future"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_archives_that_cannot_be_read(tmp_path: Path, kind: str) -> None:
    path = wrong_archive(tmp_path, kind)
    for source in (str(path), f"{path}:images"):
        with pytest.raises(ValueError, match=r"forget images: .*set\.npz.* cannot be read"):
            open_images(source, SHAPE, role="forget")
    with pytest.raises(ValueError, match="cannot be read"):
        read_texts(f"{path}:images")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(tmp_path: Path, method: int) -> None:
    assert len(open_images(str(archive(tmp_path, GOOD, method)), SHAPE)) == 2


def test_objects_are_refused(tmp_path: Path) -> None:
    objects = np.array([None, {}], dtype=object)
    np.savez(tmp_path / "o.npz", images=objects, x=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="Python objects, which are refused"):
        open_images(str(tmp_path / "o.npz"), SHAPE)
    assert len(open_images(f"{tmp_path / 'o.npz'}:x", SHAPE)) == 2
    np.savez(tmp_path / "c.npz", x=np.zeros((2, 8, 8), np.uint8), captions=objects)
    with pytest.raises(ValueError, match="Python objects, which are refused"):
        open_images(str(tmp_path / "c.npz"), SHAPE)
    assert len(open_images(str(tmp_path / "c.npz"), SHAPE, captions=False)) == 2


@pytest.mark.parametrize("dtype", ["complex64", "datetime64[s]", "U3", "i4,f4"])
def test_values_that_are_no_pixels(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8), np.dtype(dtype)))
    with pytest.raises(ValueError, match=r"a\.npy is .*convert it to uint8"):
        open_images(str(tmp_path / "a.npy"), SHAPE)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array", GOOD[:-20]])
def test_plain_arrays_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy cannot be read"):
        open_images(str(tmp_path / "a.npy"), SHAPE)
