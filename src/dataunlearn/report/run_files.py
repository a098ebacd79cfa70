"""Read what an unlearning run left in its folder, and write its page ``report.html``."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dataunlearn.report.grids import Images, check_images
from dataunlearn.report.redaction import Shown, redacted
from dataunlearn.report.run_page import Run, render
from dataunlearn.report.sides import OtherRun
from dataunlearn.runtime.files import save_arrays, write_atomically, write_sealed
from dataunlearn.runtime.sealed import opened
from dataunlearn.runtime.text_files import as_page, decode_file

_FILES = ("report.json", "images.npz", "log.jsonl")
_SCHEMA = 1
_REQUIRED_KEYS = ("verdict", "forget", "method", "before", "after")
_REQUIRED_IMAGES = ("forget",)
_IMAGE_NAMES = re.compile(r"forget|(before|after)_(samples|others|regeneration_\d+)")
# What runs must share to stand beside each other.
_SAME = {
    "other forget images": ("forget", "digests"),
    "another model": ("model", "before", "sha256"),
}
_MADE_BY = "`dataunlearn unlearn` makes it"
_DAMAGE = (
    *(ValueError, EOFError, KeyError, OSError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, MemoryError, OverflowError),
)


VERIFICATION_PAGE = "verification.html"


def write_report(run_dir: Path, beside: Sequence[Path] = (), *, pictures: Shown = "shown") -> Path:
    """Write ``report.html`` from what an unlearning run left in its folder.

    The page holds its pictures and asks nothing of the network. It is built in full before it
    replaces an older one, so that a failure leaves the older one as it was.

    Args:
        run_dir: The run's folder, with ``report.json`` (verdict, settings, measurements),
            ``images.npz`` (uint8 arrays ``(N, H, W, C)``) and ``log.jsonl`` (one record per step).
        beside: Folders of runs that removed the same images from the same model in other ways;
            their numbers and samples are shown beside this one's.
        pictures: How what shows the removed pictures appears.

    Returns:
        The path of the page.

    Raises:
        ValueError: If a file, a key or an array is missing or malformed, or another run is about
            other images or another model.
    """
    path = Path(run_dir) / "report.html"
    write_atomically(path, page_of(run_dir, beside, pictures=pictures))
    return path


def page_of(run_dir: Path, beside: Sequence[Path] = (), *, pictures: Shown = "shown") -> bytes:
    """The page that :func:`write_report` writes; of a folder of ``verify`` the page that is there.

    Raises:
        ValueError: As :func:`write_report`.
    """
    verification = Path(run_dir) / VERIFICATION_PAGE
    if verification.is_file() and not (Path(run_dir) / "report.json").exists():
        if beside or pictures != "shown":
            raise ValueError(f"{run_dir} holds a verification: its page shows no pictures")
        return verification.read_bytes()
    run = read_run(Path(run_dir))
    others = [other_run(run, Path(folder)) for folder in beside]
    return as_page(render(replace(run, others=others, pictures=pictures)))


def purge_pictures(run_dir: Path) -> None:
    """Take what shows the removed pictures out of a run's files for good, and write its page anew.

    Raises:
        ValueError: As :func:`write_report`.
    """
    run = read_run(run_dir)
    grey = redacted(run.images, run.threshold, "left_out")
    write_sealed(run_dir / "report.json", {**run.report, "pictures": "left_out"})
    save_arrays(run_dir / "images.npz", **grey)
    write_report(run_dir)


def read_run(run_dir: Path) -> Run:
    """What an unlearning run left in its folder.

    Raises:
        ValueError: If a file, a key or an array is missing or malformed.
    """
    missing = [name for name in _FILES if not (run_dir / name).is_file()]
    if missing:
        raise ValueError(
            f"{run_dir} has no {', '.join(missing)}; `dataunlearn unlearn` makes "
            f"{', '.join(_FILES)}: give the folder that it wrote to (the page of "
            "`unlearn-prompts` is drawn once, with its run)"
        )
    return Run(
        report=_read_report(run_dir / "report.json"),
        images=_read_images(run_dir / "images.npz"),
        log=_read_log(run_dir / "log.jsonl"),
    )


def other_run(run: Run, folder: Path) -> OtherRun:
    """A run to be shown beside ``run``, called by the name of its method.

    Raises:
        ValueError: If it is about other images or another model.
    """
    other = read_run(folder)
    for what, keys in _SAME.items():
        mine, others = (_at(each.report, keys) for each in (run, other))
        if mine != others:
            raise ValueError(f"the run in {folder} is about {what}: it cannot stand beside this")
    label = str(other.report["method"].get("objective", folder.name)).split("(")[0]
    return OtherRun(label, other.report, other.images.get("after_samples"))


def _at(report: dict[str, Any], keys: Sequence[str]) -> Any:
    value: Any = report
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return sorted(set(value)) if isinstance(value, list) else value


def _read_report(path: Path) -> dict[str, Any]:
    report = opened(_parse_object(decode_file(path), str(path)), str(path))
    if report.get("schema") != _SCHEMA:
        raise ValueError(
            f"{path} has schema {report.get('schema')!r} and this version reads {_SCHEMA}; "
            "write the report with the version of dataunlearn that made the run"
        )
    missing = [key for key in _REQUIRED_KEYS if not isinstance(report.get(key), dict)]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; {_MADE_BY}")
    if not isinstance(report["verdict"].get("forgotten"), bool):
        raise ValueError(f"{path}: verdict.forgotten must be true or false; {_MADE_BY}")
    return report


def _read_images(path: Path) -> dict[str, Images]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images = {name: arrays[name] for name in arrays if _IMAGE_NAMES.fullmatch(name)}
    except _DAMAGE as error:
        raise ValueError(f"{path} cannot be read ({error}); {_MADE_BY}") from error
    missing = [name for name in _REQUIRED_IMAGES if not len(images.get(name, ()))]
    if missing:
        raise ValueError(f"{path} has no pictures in {', '.join(missing)}; {_MADE_BY}")
    for name, array in images.items():
        check_images(array, f"{name} in {path}")
    return images


def _read_log(path: Path) -> list[dict[str, Any]]:
    lines = decode_file(path).split("\n")
    return [
        _parse_object(line, f"line {number} of {path}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _parse_object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON ({error}); {_MADE_BY}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a JSON object, got {type(value).__name__}; {_MADE_BY}")
    return value
