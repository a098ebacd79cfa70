"""The yardstick: a model that never saw the forgotten images, measured with the same seeds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.runtime.run_folder import describe
from dataunlearn.unlearning.config import Evaluation
from dataunlearn.unlearning.measuring import measure

LABEL = "a model that never saw it"
NEEDED = ("regeneration", "regeneration_interval")


@dataclass(frozen=True, eq=False)
class Reference:
    """A model to measure, or what was measured of one earlier.

    Attributes:
        model: The model; None where ``numbers`` are given.
        numbers: Its measurements, as a report's ``after`` holds them; None until measured.
    """

    model: DiffusionModel | None = None
    numbers: dict[str, Any] | None = None

    def measured(
        self,
        originals: Tensor,
        threshold: float,
        settings: Evaluation,
        *,
        cond: Cond | None = None,
        shown: bool = True,
    ) -> dict[str, Any]:
        """The numbers for a report, with a label; see :func:`.measuring.measure`."""
        if self.numbers is not None:
            same = self.numbers.get("evaluation", describe(settings)) == describe(settings)
            label = LABEL if same else f"{LABEL}, measured with other settings"
            return {**self.numbers, "label": label}
        assert self.model is not None
        found = measure(
            self.model,
            originals,
            threshold,
            settings,
            cond=cond,
            label="measuring the reference",
            shown=shown,
        )
        return {"label": LABEL, **found.numbers}


def open_reference(source: str, like: DiffusionModel, device: torch.device) -> Reference:
    """Open a model folder, a hub id, or a JSON file of earlier measurements.

    Args:
        source: Where it is.
        like: The model it is compared with.
        device: Where to put a model.

    Raises:
        ValueError: If it is neither, or its pictures have another shape.
    """
    path = Path(source)
    if path.suffix == ".json":
        return Reference(numbers=read_numbers(path))
    model = load_model(source, device=device)
    if model.image_shape != like.image_shape or model.num_classes != like.num_classes:
        raise ValueError(
            f"the reference {source} draws {model.image_shape} with {model.num_classes} classes, "
            f"the model {like.image_shape} with {like.num_classes}: they cannot be compared"
        )
    model.denoiser.eval()
    return Reference(model)


def read_numbers(path: Path) -> dict[str, Any]:
    """A reference's measurements from a JSON file.

    Raises:
        ValueError: If the file is missing or lacks the regeneration shares.
    """
    try:
        numbers = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read the reference's measurements: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(numbers, dict) or any(key not in numbers for key in NEEDED):
        raise ValueError(f"{path} lacks {' or '.join(NEEDED)}: give a model folder instead")
    return numbers
