"""Run commands in child processes with one thread, and read hashes and numbers off their files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TIMEOUT = 900
INTERRUPTED = 130
VOLATILE = {"machine", "versions", "command", "peak_memory_bytes", "out"}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass
class Context:
    """Where cases work.

    Attributes:
        work: Folder for the runs.
        folder: Run folder of the ``*_unfinished`` cases, or None.
        results: What is done, by case.
    """

    work: Path
    folder: Path | None
    results: dict[str, Any]

    def fresh(self, name: str) -> Path:
        """A path that does not exist."""
        path = self.work / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        return path

    def facts_of(self, name: str) -> Any:
        """The facts of a case that is done.

        Raises:
            RuntimeError: If it is not.
        """
        if "facts" not in self.results.get(name, {}):
            raise RuntimeError(f"run {name} first, into the same --out file")
        return self.results[name]["facts"]


def child_environment() -> dict[str, str]:
    """One thread, no GPU, no network, and the package of the current folder."""
    return {
        **os.environ,
        **dict.fromkeys(THREADS, "1"),
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": str(Path.cwd() / "src"),
    }


def run_child(
    command: Sequence[str], expect: Sequence[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run to the end.

    Raises:
        RuntimeError: If the exit code is none of those expected.
    """
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, text=True, timeout=TIMEOUT
    )
    if done.returncode not in expect:
        said = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"exit code {done.returncode} of {' '.join(command)}:\n{said}")
    return done


def verb(*arguments: str, expect: Sequence[int] = (0,)) -> int:
    """Run ``dataunlearn VERB ...``; returns the exit code."""
    return run_child([sys.executable, "-m", "dataunlearn", *arguments], expect).returncode


def interrupt(arguments: Sequence[str], log: Path, after_steps: int) -> int:
    """Run ``dataunlearn VERB ...`` and send SIGINT once the log has so many lines.

    Returns:
        The steps in the log afterwards.

    Raises:
        RuntimeError: If it does not end with exit code 130.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "dataunlearn", *arguments],
        env=child_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + TIMEOUT
    while process.poll() is None and count_lines(log) < after_steps:
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIMEOUT)
    if process.returncode != INTERRUPTED:
        raise RuntimeError(f"exit code {process.returncode} instead of 130:\n{said[-3000:]}")
    return count_lines(log)


def count_lines(file: Path) -> int:
    """Complete lines of a file that may not be there."""
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def cleaned(value: Any) -> Any:
    """JSON values without times, machine and places: floats as repr, paths as last part."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in VOLATILE}
        return {key: cleaned(item) for key, item in kept.items() if not key.endswith("seconds")}
    if isinstance(value, list):
        return [cleaned(item) for item in value]
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str) and "/" in value:
        return value.rpartition("/")[2]
    return value


def read_json(file: Path) -> Any:
    """A JSON file's content, cleaned."""
    return cleaned(json.loads(file.read_text()))


def read_log(file: Path) -> list[Any]:
    """The records of a log, cleaned."""
    return [cleaned(json.loads(line)) for line in file.read_text().splitlines()]


def sha(*parts: bytes) -> str:
    """SHA-256 over lengths and bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def tensors_sha(file: Path) -> str:
    """Over names, types, shapes and bytes of a safetensors file's tensors; metadata is left out."""
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    parts = []
    for name in sorted(header):
        about = header[name]
        first, last = (start + offset for offset in about["data_offsets"])
        words = f"{name} {about['dtype']} {about['shape']}"
        parts += [words.encode(), content[first:last]]
    return sha(*parts)


def array_sha(array: np.ndarray) -> str:
    """Over type, shape and bytes of an array."""
    words = f"{array.dtype} {array.shape}"
    return sha(words.encode(), np.ascontiguousarray(array).tobytes())


def picture_sha(file: Path) -> str:
    """Over the pixels of a picture."""
    with Image.open(file) as picture:
        return array_sha(np.asarray(picture))


def file_sha(file: Path) -> str:
    """Over what a file holds, whatever its container writes about itself."""
    if file.suffix == ".safetensors":
        return tensors_sha(file)
    if file.suffix == ".png":
        return picture_sha(file)
    if file.suffix == ".npz":
        with np.load(file) as arrays:
            return sha(*(f"{key} {array_sha(arrays[key])}".encode() for key in sorted(arrays)))
    if file.suffix == ".pt":
        with zipfile.ZipFile(file) as archive:
            names = sorted(archive.namelist())
            return sha(*(part for name in names for part in (name.encode(), archive.read(name))))
    if file.suffix in (".json", ".jsonl"):
        text = file.read_text()
        values = (
            [json.loads(line) for line in text.splitlines()]
            if file.suffix == ".jsonl"
            else [json.loads(text)]
        )
        return sha(json.dumps(cleaned(values), sort_keys=True).encode())
    return sha(file.read_bytes())


def hashes(root: Path, *patterns: str) -> dict[str, str]:
    """Hashes of the files under a folder, by their path in it.

    Raises:
        RuntimeError: If a pattern matches none.
    """
    found = {}
    for pattern in patterns:
        files = sorted(path for path in root.glob(pattern) if path.is_file())
        if not files:
            raise RuntimeError(f"{root} has no {pattern}")
        found |= {str(file.relative_to(root)): file_sha(file) for file in files}
    return found
