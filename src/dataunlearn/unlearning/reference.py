"""The yardstick: a model that never saw the forgotten images, measured with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dataunlearn.conditioning import Cond
from dataunlearn.data.prompt import Prompt
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.base import require_comparable
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.settings import describe
from dataunlearn.runtime.text_files import decode_file, parse_json
from dataunlearn.unlearning.config import Evaluation
from dataunlearn.unlearning.measuring import Asked, measure

LABEL = "a model that never saw it"
NEEDED = ("regeneration", "regeneration_interval")
SCORES = ("inception_score", "mean_confidence", "num_samples", "num_digits", "regeneration_copies")


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
            asked=Asked(prompts),
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
    numbers = parse_json(decode_file(path), str(path))
    if not isinstance(numbers, dict) or any(key not in numbers for key in NEEDED):
        raise ValueError(f"{path} lacks {' or '.join(NEEDED)}: give a model folder instead")
    check_numbers(numbers, path)
    return numbers


def check_numbers(numbers: Mapping[str, Any], path: Path) -> None:
    """Refuse measurements that no report could show.

    Raises:
        ValueError: With the entry that is not of the right form.
    """
    over = numbers.get("over_level") or {"timesteps": [], "mean": [], "intervals": []}
    forms = {
        "regeneration": _by_timestep(numbers["regeneration"], _is_share),
        "regeneration_interval": _by_timestep(numbers["regeneration_interval"], _is_interval),
        "over_level": isinstance(over, dict)
        and all(isinstance(over.get(key, []), list) for key in ("timesteps", "mean", "intervals"))
        and all(type(step) is int for step in over.get("timesteps", []))
        and all(value is None or _is_number(value) for value in over.get("mean", []))
        and all(_is_interval(pair) for pair in over.get("intervals", [])),
    }
    for key, value in numbers.items():
        if key.endswith("_interval") and key not in forms:
            forms[key] = value is None or _is_interval(value)
        elif key in SCORES or key.endswith(("_frequency", "_share")):
            forms[key] = value is None or _is_number(value)
    wrong = [key for key, is_good in forms.items() if not is_good]
    require(
        not wrong,
        f"{path}: {', '.join(wrong)} are not as a run's report.json holds them under `after`: "
        "correct the file, or give a model folder instead",
    )


def _by_timestep(value: Any, is_good: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(
        step.isdecimal() and step.isascii() and is_good(each) for step, each in value.items()
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (0, 2) and all(map(_is_number, value))
