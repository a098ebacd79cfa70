"""Pictures in files: a folder or a list of paths, decoded when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps

from dataunlearn.data.base import ImageSet, Pixels
from dataunlearn.data.captions import Captions, read_captions
from dataunlearn.data.folders import IMAGE_SUFFIXES, TEXT_SUFFIXES, list_folder, some
from dataunlearn.data.known_files import CACHED_FROM, KnownFiles, cache_file
from dataunlearn.data.pixels import fit_pixels, image_to_pixels
from dataunlearn.runtime.progress import progress_bar

NOTHING_LOST = ("forget", "without")
"""Roles of pictures of which none may be passed over."""

_FEWEST_THREADS, _MOST_THREADS = 4, 32
_CHUNK = 5_000  # pictures, whose digests are then kept
_NUM_NAMES = 10
_NUM_SUFFIXES = 10
_PROGRESS_FROM_IMAGES = 500


class FileImages(ImageSet):
    """Image files, decoded with pillow each time they are asked for.

    Args:
        paths: One file each.
        shape: ``(C, H, W)`` that every picture must have.
        resize: Whether pictures of another size are centre-cropped and resized.
        labels: One class a file, if any.
        captions: One text a file, or None where there is none.

    Raises:
        ValueError: If the number of labels or captions is not the number of files.
    """

    lazy = True

    def __init__(
        self,
        paths: Sequence[str | Path],
        shape: tuple[int, int, int],
        *,
        resize: bool = False,
        labels: Sequence[int] | None = None,
        captions: Sequence[str | None] | None = None,
    ) -> None:
        for kind, given in (("labels", labels), ("captions", captions)):
            if given is not None and len(given) != len(paths):
                raise ValueError(f"{len(paths)} files need as many {kind}, got {len(given)}")
        self.paths = tuple(Path(path) for path in paths)
        self.shape = shape
        self._resize = resize
        self._classes, self._captions = labels, captions

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The path."""
        return str(self.paths[index])

    def pixels(self, index: int) -> Pixels:
        """One file, decoded to uint8 ``(C, H, W)``.

        Raises:
            ValueError: If the file cannot be read or does not fit ``shape``.
        """
        try:
            decoded = _decode(self.paths[index])
            return fit_pixels(decoded, self.shape, resize=self._resize)
        except ValueError as error:
            raise ValueError(f"{self.name(index)} {error}") from error

    def label(self, index: int) -> int | None:
        """The class of a file; None without labels."""
        return None if self._classes is None else self._classes[index]

    def caption(self, index: int) -> str | None:
        """The text of a file; None where there is none."""
        return None if self._captions is None else self._captions[index]

    @property
    def fitted(self) -> tuple[tuple[int, int, int], bool]:
        """What pixels follow from besides a file: the shape, and whether others are resized."""
        return self.shape, self._resize

    def num_frames(self, index: int) -> int:
        """How many pictures a file holds; the previews in a camera's JPEG do not count."""
        with Image.open(self.paths[index]) as image:
            return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)

    def check(self, index: int) -> None:
        """Verify the file's structure, decode it and cache its digest.

        Raises:
            ValueError: If the file is damaged or does not fit ``shape``.
        """
        if index in self._digests:
            return
        try:
            with Image.open(self.paths[index]) as image:
                image.verify()
        except Exception as error:
            raise ValueError(f"{self.name(index)} {_unreadable(error)}") from error
        super().check(index)


def open_folder(
    folder: Path, shape: tuple[int, int, int], *, resize: bool, role: str, captions: bool
) -> FileImages:
    """The picture files under a folder, sorted by path; hidden files are left out.

    Linked folders are searched as well, each once. Where every file lies in a folder whose name is
    an integer, these are the labels.

    Args:
        folder: The folder.
        shape: ``(C, H, W)`` that every picture must have.
        resize: Whether pictures of another size are centre-cropped and resized.
        role: What the pictures are for; of those to forget none may be left out.
        captions: Whether texts are read, in the forms of :mod:`dataunlearn.data.captions`.

    Raises:
        ValueError: If there is no picture, captions cannot be read, or there are pictures to forget
            that cannot be.
    """
    there = list_folder(folder)
    if there.problems and role in NOTHING_LOST:
        listed = "\n  ".join(there.problems[:_NUM_NAMES])
        raise ValueError(
            f"folder {folder} has {len(there.problems)} that cannot be read, and here none may be "
            f"passed over; repair or remove them:\n  {listed}"
        )
    if not there.pictures:
        kinds = " ".join(suffix[1:] for suffix in IMAGE_SUFFIXES[:_NUM_SUFFIXES])
        others = some((*there.problems, *there.others, *there.hidden))
        raise ValueError(
            f"folder {folder} has no image files ({kinds}, and others that pillow reads)"
            + (f"; it has {others}" if others else "")
        )
    paths = [folder / path for path in there.pictures]
    texts = read_captions(folder, paths, there.others) if captions else Captions()
    parents = [path.parent.name for path in there.pictures]
    are_classes = all(name.isascii() and name.isdecimal() for name in parents)
    images = FileImages(
        paths,
        shape,
        resize=resize,
        labels=[int(name) for name in parents] if are_classes else None,
        captions=texts.texts,
    )
    left = [p for p in there.others if not captions or p.suffix.lower() not in TEXT_SUFFIXES]
    images.remarks = (*texts.remarks, *_left_out(there.problems, there.hidden, left))
    return images


def open_file(
    path: Path, shape: tuple[int, int, int], *, resize: bool, captions: bool
) -> FileImages:
    """One picture file, with the caption that lies beside it.

    Raises:
        ValueError: If captions beside it cannot be read.
    """
    texts = Captions()
    if captions:
        others = [Path(other.name) for other in path.parent.iterdir() if other != path]
        texts = read_captions(path.parent, [path], others, chosen=True)
    images = FileImages([path], shape, resize=resize, captions=texts.texts)
    images.remarks = texts.remarks
    return images


def _left_out(
    problems: Sequence[str], hidden: Sequence[Path], others: Sequence[Path]
) -> Iterator[str]:
    if problems:
        yield f"left out {len(problems)} that cannot be read ({some(problems)})"
    if hidden:
        yield f"left out {len(hidden)} hidden pictures ({some(hidden)})"
    if others:
        yield f"left out {len(others)} files that are no pictures ({some(others)})"


def check_all(images: ImageSet, *, role: str) -> None:
    """Decode every picture once, before anything else is done; digests are cached on the way.

    Sets in memory are left alone; files are decoded in a few threads, but for those to keep that an
    earlier command decoded and that did not change since.

    Args:
        images: The set to check.
        role: ``"keep"`` or ``"forget"``, for the progress bar.

    Raises:
        ValueError: With the first 10 pictures that cannot be used, and why.
    """
    if not images.lazy:
        return

    def find_problem(index: int) -> str | None:
        try:
            images.check(index)
        except ValueError as error:
            return str(error)
        if role in NOTHING_LOST and isinstance(images, FileImages):
            frames = images.num_frames(index)
            if frames > 1:
                return f"{images.name(index)} holds {frames} pictures: save each as a file"
        return None

    known = _known_files(images, role)
    bad: list[str] = []
    shown = len(images) > _PROGRESS_FROM_IMAGES
    pool = ThreadPoolExecutor(_num_threads() if isinstance(images, FileImages) else 1)
    try:
        with progress_bar(f"checking {role} images", len(images), shown=shown) as advance:
            for first in range(0, len(images), _CHUNK):
                chunk = range(first, min(first + _CHUNK, len(images)))
                new = chunk if known is None else known.recall(chunk, images._digests)
                advance(len(chunk) - len(new))
                for problem in pool.map(find_problem, new):
                    advance()
                    if problem is not None:
                        bad.append(problem)
                    if len(bad) == _NUM_NAMES:
                        raise ValueError(_describe_bad(bad, len(images)))
                if known is not None:
                    known.remember(new, images._digests)
    finally:
        pool.shutdown(cancel_futures=True)
    if bad:
        raise ValueError(_describe_bad(bad, len(images)))


def _known_files(images: ImageSet, role: str) -> KnownFiles | None:
    """What earlier commands saw of these files; None where they are few, or not to be kept."""
    file = cache_file()
    if not isinstance(images, FileImages) or role in NOTHING_LOST or len(images) < CACHED_FROM:
        return None
    return None if file is None else KnownFiles(images.paths, images.fitted, file)


def _num_threads() -> int:
    return min(_MOST_THREADS, max(_FEWEST_THREADS, os.cpu_count() or 1))


def _describe_bad(bad: list[str], num_images: int) -> str:
    start = f"the first {_NUM_NAMES}" if len(bad) == _NUM_NAMES else str(len(bad))
    listed = "\n  ".join(bad)
    return f"{start} of {num_images} cannot be used:\n  {listed}"


def _decode(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)  # here, as damaged EXIF raises too
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and others
        raise ValueError(_unreadable(error)) from error
    return image_to_pixels(upright)


def _unreadable(error: Exception) -> str:
    return f"cannot be read as an image (damaged or cut short?): {error}"
