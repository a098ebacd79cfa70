"""The yardstick: a model that never saw the forgotten images, measured with the same seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data.prompt import Prompt
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.base import require_comparable
from dataunlearn.runtime.checks import require
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

    @property
    def opened(self) -> DiffusionModel:
        """The model.

        Raises:
            ValueError: If there are only measurements.
        """
        if self.model is None:
            raise ValueError("earlier measurements are no reference here: give the model's folder")
        return self.model

    def measured(
        self,
        originals: Tensor,
        threshold: float,
        settings: Evaluation,
        *,
        cond: Cond | None = None,
        prompts: Sequence[Prompt] = (),
        shown: bool = True,
    ) -> dict[str, Any]:
        """The numbers for a report, with a label; see :func:`.measuring.measure`."""
        if self.numbers is not None:
            same = self.numbers.get("evaluation", describe(settings)) == describe(settings)
            label = LABEL if same else f"{LABEL}, measured with other settings"
            return {**self.numbers, "label": label}
        found = measure(
            self.opened,
            originals,
            threshold,
            settings,
            cond=cond,
            prompts=prompts,
            label="measuring the reference",
            shown=shown,
        )
        require(
            found.broken is None,
            f"the reference {self.opened.source} cannot be measured: {found.broken}",
        )
        return {"label": LABEL, **found.numbers}


def open_reference(source: str, like: DiffusionModel, image_size: int | None = None) -> Reference:
    """Open a model folder, a hub id, or a JSON file of earlier measurements.

    Args:
        source: Where it is.
        like: The model it is compared with, which says how it is sampled and where it is put.
        image_size: Pixels of a side that both are to work at; None for their own.

    Raises:
        ValueError: If it is neither, or its pictures have another shape.
    """
    path = Path(source)
    if path.suffix == ".json":
        return Reference(numbers=read_numbers(path))
    model = load_model(source, image_size=image_size, device=like.device)
    require_comparable(model, like)
    model.denoiser.eval()
    model.guidance = like.guidance
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
