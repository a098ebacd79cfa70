"""Pictures in Hugging Face datasets: on the hub, or saved with ``save_to_disk``."""

from __future__ import annotations

import re
from contextlib import nullcontext
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi
from PIL import Image, ImageOps

from dataunlearn.data.base import LOCAL_FORMS, ImageSet, Pixels
from dataunlearn.data.captions import first_text, text_column, warn_of_none
from dataunlearn.data.pixels import fit_pixels, image_to_pixels
from dataunlearn.runtime.checks import in_one_line
from dataunlearn.runtime.hub import no_answer, require_no_path, without_network

if TYPE_CHECKING:
    import datasets

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LABEL_COLUMNS = ("label", "labels")
_TEXT_TYPES = ("string", "large_string", "string_view", "binary", "large_binary")


class HubImages(ImageSet):
    """The image column of a ``datasets.Dataset``, decoded when a picture is asked for.

    Labels come from the column ``label`` or ``labels`` where it is a ``ClassLabel`` or an integer.

    Args:
        dataset: A dataset with exactly one column of type ``datasets.Image``.
        shape: ``(C, H, W)`` that every picture must have.
        source: What names are made from: ``source[17]``.
        resize: Whether pictures of another size are centre-cropped and resized.
        captions: Whether texts are read.
        whole: Whether all pictures are in the dataset: rows that name a file or an address, which
            may be anywhere, are then errors.

    Raises:
        ValueError: If there is not exactly one image column, or several that may be captions.
    """

    lazy = True

    def __init__(
        self,
        dataset: datasets.Dataset,
        shape: tuple[int, int, int],
        *,
        source: str = "dataset",
        resize: bool = False,
        captions: bool = True,
        whole: bool = False,
    ) -> None:
        import datasets as hub

        features: dict[str, Any] = dataset.features
        columns = [name for name, kind in features.items() if isinstance(kind, hub.Image)]
        if len(columns) != 1:
            raise ValueError(
                f"{source} needs exactly one image column, it has {len(columns)} among "
                f"{', '.join(features)}; keep one with select_columns"
            )
        self.shape = shape
        self._column = columns[0]
        self._source = source
        self._resize = resize
        self._classes = _read_labels(dataset)
        self._captions: list[str | None] | None = None
        if captions:
            self._captions, self.remarks = _read_captions(dataset, source)
        plain = dataset.with_format(None).select_columns(columns)
        self._images: Any = plain.cast_column(self._column, hub.Image(decode=False))
        self._whole = whole

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        """``source[index]``."""
        return f"{self._source}[{index}]"

    def pixels(self, index: int) -> Pixels:
        """One row, decoded to uint8 ``(C, H, W)``.

        Raises:
            ValueError: If the image is missing, cannot be read or does not fit ``shape``.
        """
        try:
            image = _decoded(self._images[index][self._column], whole=self._whole)
            return fit_pixels(image_to_pixels(image), self.shape, resize=self._resize)
        except (ValueError, OSError, SyntaxError) as error:
            raise ValueError(f"{self.name(index)} {error}") from error

    def label(self, index: int) -> int | None:
        """The class of a row; None where it has none."""
        return None if self._classes is None else self._classes[index]

    def caption(self, index: int) -> str | None:
        """The text of a row; None where it has none."""
        return None if self._captions is None else self._captions[index]

    @cached_property
    def has_labels(self) -> bool:
        """Whether the dataset has a usable label column without gaps."""
        return self._classes is not None


def _decoded(row: dict[str, Any] | None, *, whole: bool) -> Image.Image:
    """The picture of a row that has ``bytes``, or a ``path`` where it may name one.

    Raises:
        ValueError: If it has neither, or names what must not be read.
    """
    content = None if row is None else row["bytes"]
    path = str((row or {}).get("path") or "")
    if content is None and not path:
        raise ValueError("has no image in this row")
    if content is None and (whole or "://" in path):
        raise ValueError(
            f"names {path!r} instead of holding a picture; what lies outside of a dataset is not "
            "read: load it where its pictures are, and save it again with save_to_disk"
        )
    with Image.open(path if content is None else BytesIO(content)) as image:
        image.load()
        return ImageOps.exif_transpose(image)


def looks_like_hub_id(name: str) -> bool:
    """Whether a name has the form ``owner/name`` (a bare ``name`` has not)."""
    return _HUB_ID.fullmatch(name) is not None


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by ``save_to_disk`` of a Dataset or a DatasetDict."""
    is_dict = (folder / "dataset_dict.json").is_file()
    return is_dict or all((folder / name).is_file() for name in ("dataset_info.json", "state.json"))


def open_saved(
    folder: Path, split: str | None, shape: tuple[int, int, int], *, resize: bool, captions: bool
) -> HubImages:
    """Open a folder written by ``save_to_disk``.

    Raises:
        ValueError: If it cannot be read, or the split cannot be chosen.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except Exception as error:
        raise ValueError(f"{folder} cannot be read as a saved dataset: {error}") from error
    chosen, source = _choose_split(loaded, split, str(folder))
    return HubImages(chosen, shape, source=source, resize=resize, captions=captions, whole=True)


def open_hub(
    name: str, split: str | None, shape: tuple[int, int, int], *, resize: bool, captions: bool
) -> HubImages:
    """Load a dataset from the Hugging Face hub, or what was fetched of it earlier.

    The hub is asked once, for a few seconds.

    Raises:
        ValueError: If it cannot be loaded; the message lists the local forms.
    """
    import datasets

    require_no_path(name)
    reason = no_answer(HfApi().dataset_info, name)
    try:
        with nullcontext() if reason is None else without_network():
            loaded = datasets.load_dataset(name)
    except Exception as error:  # its builders raise many kinds
        raise ValueError(
            f"no local path {name}, and the Hugging Face dataset {name} could not be loaded: "
            f"{reason or in_one_line(error)}; without a network give {LOCAL_FORMS}"
        ) from error
    chosen, source = _choose_split(loaded, split, name)
    return HubImages(chosen, shape, source=source, resize=resize, captions=captions)


def _choose_split(loaded: Any, split: str | None, source: str) -> tuple[Any, str]:
    """The split, and what it is called."""
    from datasets import DatasetDict

    if not isinstance(loaded, DatasetDict):
        own = None if loaded.split is None else str(loaded.split)
        if split not in (None, own):
            raise ValueError(f"{source} is a single split ({own}); leave out #{split}")
        return loaded, source if split is None else f"{source}#{split}"
    names = list(loaded)
    if split is None:
        split = names[0] if len(names) == 1 else "train"
    if split not in names:
        raise ValueError(
            f"{source} has no split {split!r}; choose one as {source}#SPLIT from: "
            f"{', '.join(names)}"
        )
    return loaded[split], f"{source}#{split}"


def _read_captions(
    dataset: datasets.Dataset, source: str
) -> tuple[list[str | None] | None, tuple[str, ...]]:
    """Texts of the column that has captions, and remarks; None without such a column."""
    texts_in = (name for name, kind in dataset.features.items() if _holds_texts(kind))
    columns = [name for name in texts_in if name not in _LABEL_COLUMNS]
    column = text_column(columns, source)
    if column is None:
        if columns:
            warn_of_none(f"{source} has columns {', '.join(columns)}")
        return None, (f"no captions among its columns {', '.join(columns)}",) if columns else ()
    values = dataset.with_format(None).select_columns([column])[:][column]
    place = f"{source}, column {column}"
    texts = [first_text(value, f"{place}, row {row}") for row, value in enumerate(values)]
    given = sum(text is not None for text in texts)
    several = any(isinstance(value, list) and len(value) > 1 for value in values)
    words = f"{given} of {len(texts)} have captions, from column {column}"
    return texts, (words + (", of several the first" if several else ""),)


def _holds_texts(kind: Any) -> bool:
    """Whether a column holds texts, or lists of them."""
    inner = getattr(kind, "feature", kind)  # of a list
    return getattr(inner, "dtype", None) in _TEXT_TYPES


def _read_labels(dataset: Any) -> list[int] | None:
    from datasets import ClassLabel, Value

    for column in _LABEL_COLUMNS:
        kind = dataset.features.get(column)
        is_integer = isinstance(kind, Value) and "int" in kind.dtype
        if isinstance(kind, ClassLabel) or is_integer:
            found = dataset.with_format(None).select_columns([column])[:][column]
            unlabelled = [None, -1] if isinstance(kind, ClassLabel) else [None]
            if not any(value in unlabelled for value in found):
                return [int(value) for value in found]
    return None
