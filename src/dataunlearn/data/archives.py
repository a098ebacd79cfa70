"""Pictures, labels and captions in ``.npy`` and ``.npz`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from dataunlearn.data.arrays import ArrayImages, from_array
from dataunlearn.data.captions import text_column, warn_of_none
from dataunlearn.data.tables import as_text

_PREFERRED_KEYS = ("images", "x", "data", "arr_0")
_LABEL_KEYS = ("labels", "y")
_CAPTION_KEYS = ("captions", "prompts")
MAPPED_FROM_BYTES = 2**26
_ADVICE = (
    "it is damaged, encrypted, no array, or holds Python objects, which are refused; save one "
    "uint8 array with numpy.save"
)


def open_array_file(
    path: Path,
    shape: tuple[int, int, int],
    *,
    resize: bool,
    key: str | None = None,
    captions: bool = True,
) -> ArrayImages:
    """Read pictures from ``.npy``, or from one array of an ``.npz`` (with labels and captions).

    Raises:
        ValueError: If the file cannot be read, holds Python objects, or has no fitting array, or
            captions that are no texts or not one for each picture.
    """
    loaded = load_arrays(path)
    if isinstance(loaded, np.ndarray):
        return from_array(loaded, shape, resize=resize, source=path.name)
    texts: list[str] | None = None
    remarks: tuple[str, ...] = ()
    with loaded:
        chosen = _choose_key(loaded, key, shape, path)
        array = read_array(loaded, chosen, path)
        source = path.name if key is None else f"{path.name}:{key}"
        images = from_array(array, shape, resize=resize, source=source)
        labels = _find_labels(loaded, len(images), path)
        if captions:
            texts, remarks = _find_captions(loaded, images, chosen, path)
    if labels is not None or texts is not None:
        images = ArrayImages(images._pixels, source=source, labels=labels, captions=texts)
    images.remarks = remarks
    return images


def load_arrays(path: Path) -> NDArray[Any] | NpzFile:
    """One array, or an archive of several that are read when asked for.

    Raises:
        ValueError: If the file cannot be read, or holds Python objects.
    """
    try:
        loaded = _mapped(path)
        if loaded is None:
            loaded = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file raises many kinds
        raise ValueError(f"{path} cannot be read ({error}): {_ADVICE}") from error
    if isinstance(loaded, np.ndarray | NpzFile):
        return loaded
    raise ValueError(f"{path} cannot be read: {_ADVICE}")


def _mapped(path: Path) -> NDArray[Any] | None:
    """A large array that stays on disk; None for what is small, or cannot be mapped."""
    if path.suffix.lower() != ".npy" or path.stat().st_size < MAPPED_FROM_BYTES:
        return None
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError):  # whatever it is, reading it as a whole tells more
        return None


def _choose_key(archive: NpzFile, key: str | None, shape: tuple[int, int, int], path: Path) -> str:
    keys = ", ".join(archive.files)
    if key is not None:
        if key not in archive.files:
            raise ValueError(f"{path} has no array {key!r}; it has: {keys}")
        return key
    for preferred in _PREFERRED_KEYS:
        if preferred in archive.files:
            return preferred
    shaped = [name for name in archive.files if _is_image_shaped(archive, name, shape)]
    if len(shaped) != 1:
        raise ValueError(
            f"{path} does not say which array holds the images; choose one as {path.name}:KEY "
            f"from: {keys}"
        )
    return shaped[0]


def _is_image_shaped(archive: NpzFile, key: str, shape: tuple[int, int, int]) -> bool:
    try:
        array = archive[key]
    except Exception:  # an object array, or a damaged one
        return False
    return (
        isinstance(array, np.ndarray)
        and array.dtype.kind in "uf"
        and (array.ndim in (3, 4) or array.shape == shape[1:])
    )


def read_array(archive: NpzFile, key: str, path: Path) -> NDArray[Any]:
    """One array of an archive.

    Raises:
        ValueError: If it is damaged, encrypted or no array, or holds Python objects.
    """
    try:
        array = archive[key]
    except Exception as error:  # as for the whole file
        raise ValueError(f"{path}:{key} cannot be read ({error}): {_ADVICE}") from error
    if not isinstance(array, np.ndarray):  # what is no array comes as bytes
        raise ValueError(f"{path}:{key} cannot be read: {_ADVICE}")
    return array


def _find_labels(archive: NpzFile, num_images: int, path: Path) -> NDArray[np.integer] | None:
    for key in _LABEL_KEYS:
        if key in archive.files:
            found = read_array(archive, key, path)
            if found.shape == (num_images,) and found.dtype.kind in "iu":
                return found
    return None


def _find_captions(
    archive: NpzFile, images: ArrayImages, chosen: str, path: Path
) -> tuple[list[str] | None, tuple[str, ...]]:
    """Texts in ``captions`` or ``prompts``, or in ``key_captions`` for the array ``key``.

    Without these, in an array with a name like those of columns. Texts of another number are an
    error, but for those that may belong to another array of pictures.
    """
    own = f"{chosen}_captions"
    key = next((name for name in (own, *_CAPTION_KEYS) if name in archive.files), None)
    if key is None:
        of_others = {f"{name}_{_CAPTION_KEYS[0]}" for name in archive.files}
        others = [name for name in archive.files if name != chosen and name not in of_others]
        key = text_column(others, str(path))
    if key is None:
        return None, ()
    found = read_array(archive, key, path)
    if found.shape != (len(images),) and key != own and _belongs_elsewhere(archive, found, chosen):
        remark = f"{key} was not used, it is as long as another array"
        warn_of_none(f"{path}: {remark}")
        return None, (remark,)
    if found.shape != (len(images),) or found.dtype.kind not in "US":
        raise ValueError(
            f"{path}:{key} is {found.dtype} {found.shape}, not one text for each of the "
            f"{len(images)} pictures of {chosen}"
        )
    texts = [as_text(text, f"{path}:{key}[{i}]") or "" for i, text in enumerate(found.tolist())]
    return texts, (f"{len(texts)} of {len(images)} have captions, from {key}",)


def _belongs_elsewhere(archive: NpzFile, texts: NDArray[Any], chosen: str) -> bool:
    """Whether there is another array of pictures that is as long as the texts."""
    for name in archive.files:
        try:
            array = archive[name]
        except Exception:  # an object array, or a damaged one
            continue
        if name != chosen and getattr(array, "ndim", 0) >= 3 and len(array) == len(texts):
            return True
    return False
