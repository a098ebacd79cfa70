"""What a run on samples of prompts trains on, so that it goes on with nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dataunlearn.data import ImageSet
from dataunlearn.data.content import describe_images
from dataunlearn.runtime.files import write_sealed
from dataunlearn.runtime.own_files import CHECKPOINTS
from dataunlearn.runtime.sealed import DamagedFileError, read_sealed
from dataunlearn.runtime.settings import differences

INPUTS_FILE = "inputs.json"


def require_same(out: Path, weights: str, sets: Mapping[str, ImageSet | None]) -> None:
    """Note what a run trains on, and refuse to go on with one that trained on something else.

    Raises:
        ValueError: If it did.
    """
    known, file = {}, out / INPUTS_FILE
    found = {name: None if each is None else describe_images(each) for name, each in sets.items()}
    content = {"weights": weights, **found}
    if any(out.glob(f"{CHECKPOINTS}/step_*")) and file.is_file():
        with suppress(DamagedFileError):
            known = read_sealed(file)
        changed = differences(known, content) if known else []
        if changed:
            raise ValueError(
                f"{out} holds training that has begun with other pictures or another model "
                f"({'; '.join(changed[:3])}): give another --out, or --overwrite to start anew"
            )
    write_sealed(file, content)
