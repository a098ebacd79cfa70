"""The models that a run's page compares: before, after, other runs, one that never saw the images.

A run's numbers lie in ``report.json`` under "before", "after" and "reference", each as
``dataunlearn unlearn`` measured it; other runs are those that removed the same images otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from dataunlearn.report import plots
from dataunlearn.report.grids import Images
from dataunlearn.report.plots import Curve

OTHER_COLOURS = ("#8c5ba8", "#5f7f2c", "#b0557a")


@dataclass(frozen=True)
class OtherRun:
    """A run that removed the same images in another way.

    Attributes:
        label: What to call it: the name of its method.
        report: Its ``report.json``.
        samples: Its ``after_samples`` ``(N, H, W, C)`` uint8, or None.
    """

    label: str
    report: Mapping[str, Any]
    samples: Images | None


@dataclass(frozen=True)
class Side:
    """One model's measurements.

    Attributes:
        label: What to call it.
        colour: A matplotlib colour.
        numbers: What was measured of it.
    """

    label: str
    colour: str
    numbers: Mapping[str, Any]


def sides_of(report: Mapping[str, Any], others: Sequence[OtherRun] = ()) -> list[Side]:
    """Everything that a page compares, the model before first; a reference may be missing."""
    found = [
        Side("before", plots.BEFORE, report["before"]),
        Side("after", plots.AFTER, report["after"]),
    ]
    colours = [OTHER_COLOURS[i % len(OTHER_COLOURS)] for i in range(len(others))]
    found += [
        Side(other.label, colour, other.report["after"])
        for other, colour in zip(others, colours, strict=True)
    ]
    reference = report.get("reference")
    if reference:
        label = str(reference.get("label", "reference"))
        found.append(Side(label, plots.REFERENCE, reference))
    return found


def known(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def shares(numbers: Mapping[str, Any]) -> dict[int, float]:
    """Share of restored tries by timestep."""
    found = numbers.get("regeneration") or {}
    return {int(t): found[t] for t in sorted(found, key=int) if known(found[t])}


def regeneration_curves(sides: Sequence[Side]) -> list[Curve]:
    """How often each model restored the images, over timesteps."""
    return [
        Curve(side.label, side.colour, shares(side.numbers), _intervals(side.numbers))
        for side in sides
    ]


def level_curves(sides: Sequence[Side]) -> list[Curve]:
    """Losses over levels of the models that they were measured of."""
    found = []
    for side in sides:
        numbers = side.numbers.get("over_level") or {}
        steps = numbers.get("timesteps") or []
        ratios = dict(zip(steps, numbers.get("mean") or [], strict=False))
        bounds = dict(zip(steps, numbers.get("intervals") or [], strict=False))
        drawn = {t: ratio for t, ratio in ratios.items() if known(ratio) and ratio > 0}
        found.append(Curve(side.label, side.colour, drawn, bounds))
    return found


def _intervals(numbers: Mapping[str, Any]) -> dict[int, tuple[float, float]]:
    intervals = numbers.get("regeneration_interval") or {}
    return {int(t): (pair[0], pair[1]) for t, pair in intervals.items() if pair}
