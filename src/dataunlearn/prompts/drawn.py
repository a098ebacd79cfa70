"""What the samples in a prompt's folder were drawn from, so that no other prompt's are taken.

``DATA/000/drawn.json`` holds everything that samples and labels depend on. Where that has changed
since, both are made anew; labels that a person has corrected are not thrown away.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from dataunlearn.models import DiffusionModel
from dataunlearn.models.identity import describe_scheduler, hash_other_networks
from dataunlearn.models.saving import hash_weights
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.prompt_file import PromptSpec
from dataunlearn.prompts.published_layout import IMAGES_FOLDER, LABELS_FILE, drop_entries
from dataunlearn.runtime.files import file_hash, write_atomically
from dataunlearn.runtime.settings import describe, differences

RECORD_FILE = "drawn.json"
_ADVICE = "give another --out, or --overwrite to start anew"

Say = Callable[[str], None]
Record = dict[str, Any]


def origins(
    model: DiffusionModel, config: PromptUnlearning, specs: Sequence[PromptSpec]
) -> dict[str, Record]:
    """What the samples of each prompt depend on, by folder: text, model, and how they are drawn."""
    shared = {
        "weights": hash_weights(model),
        "other weights": hash_other_networks(model),
        "scheduler": describe_scheduler(model),
        "shape": list(model.image_shape),
        "guidance": model.guidance,
        "shift": model.shift,
        "sampling_steps": config.sampling_steps,
        "images_per_prompt": config.images_per_prompt,
        "evaluation_seed": config.evaluation_seed,
    }
    return {
        spec.folder: {"prompt": spec.prompt, "number": number, **shared}
        for number, spec in enumerate(specs)
    }


def drop_others(root: Path, wanted: Mapping[str, Record], out: Path, say: Say) -> None:
    """Remove samples of other prompts, models or settings, with their labels, and say so.

    Args:
        root: The folder of all prompts' data.
        wanted: What samples are to be drawn from, by folder.
        out: The run's folder.
        say: Where lines for a person go.

    Raises:
        ValueError: If labels of such samples were corrected, if it is not known what these were
            drawn from, or if training has begun with them; nothing is removed then.
    """
    there = sorted(path.parent for path in root.glob(f"*/{IMAGES_FOLDER}"))
    changes = {folder: _changes(folder, wanted.get(folder.name)) for folder in there}
    stale = {folder: why for folder, why in changes.items() if why}
    new = wanted.keys() - {folder.name for folder in there}
    if (stale or new) and any(out.glob("run*/**/checkpoints")):
        raise ValueError(
            f"{out} holds training that has begun with other samples "
            f"({'; '.join([*stale.values(), *(f'{name} is new' for name in sorted(new))][:3])}): "
            + _ADVICE
        )
    for folder, why in stale.items():
        if _are_corrected(folder):
            raise ValueError(
                f"{folder} has labels that were corrected for other samples ({why}): {_ADVICE}"
            )
    for folder, why in stale.items():
        happens = "made anew" if folder.name in wanted else "removed"
        say(f"{folder.name}: samples and labels are {happens}, {why}.")
        shutil.rmtree(folder)
    drop_entries(root, {folder.name for folder in stale})


def record_origin(folder: Path, origin: Record) -> None:
    """Note what samples will be drawn from; to be called before they are written."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, {"samples": origin})


def record_labels(folder: Path, original: Tensor | None) -> None:
    """Note which labels were found, and with which training image ``(C, H, W)`` or None."""
    labels = {"sha256": file_hash(folder / LABELS_FILE), "image": _hash_image(original)}
    _write(folder, {**_read(folder), "labels": labels})


def labels_stand(folder: Path, original: Tensor | None) -> bool:
    """Whether there are labels, corrected or found with this training image ``(C, H, W)``."""
    if not (folder / LABELS_FILE).is_file():
        return False
    found = _read(folder).get("labels")
    return found is None or _are_corrected(folder) or found["image"] == _hash_image(original)


def _changes(folder: Path, wanted: Record | None) -> str:
    """Why samples are not those that are wanted; empty if they are."""
    known = _read(folder).get("samples")
    if known is None:
        raise ValueError(
            f"{folder} has samples, but no {RECORD_FILE} that says what they were drawn from: "
            f"{_ADVICE}, or give {folder.parent} as --prompts to take them as they are"
        )
    if wanted is None:
        return f"prompt {known['prompt']!r} is no longer in the file"
    lines = differences(known, describe(wanted))
    hashes = [line.partition(":")[0] for line in lines if "weights" in line.partition(":")[0]]
    others = [line for line in lines if line.partition(":")[0] not in hashes]
    told = [f"the model's {name} have changed" for name in hashes] + others
    return ", ".join(told)


def _are_corrected(folder: Path) -> bool:
    """Whether a person has changed the labels that were found."""
    labels, found = folder / LABELS_FILE, _read(folder).get("labels")
    return labels.is_file() and (found is None or file_hash(labels) != found["sha256"])


def _hash_image(image: Tensor | None) -> str | None:
    if image is None:
        return None
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()


def _read(folder: Path) -> Record:
    try:
        found: Record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _write(folder: Path, record: Record) -> None:
    content = json.dumps(record, indent=1, ensure_ascii=False)
    write_atomically(folder / RECORD_FILE, content.encode())
