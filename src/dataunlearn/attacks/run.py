"""Attacks on a model with their files: numbers, a table, and a plot for each relearning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dataunlearn.attacks.config import Relearning
from dataunlearn.attacks.courses import Course, Relearned, pooled
from dataunlearn.attacks.relearning import planned
from dataunlearn.metrics.evaluation import check_inputs, describe_inputs
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.membership import Membership
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel
from dataunlearn.models.base import require_comparable
from dataunlearn.models.identity import describe_model
from dataunlearn.report.plots import AFTER, REFERENCE, Curve, relearning_curve
from dataunlearn.runtime.files import write_atomically, write_sealed
from dataunlearn.runtime.machine import machine, versions
from dataunlearn.runtime.run_folder import run_folder
from dataunlearn.runtime.settings import describe

NUMBERS_FILE, TABLE_FILE = "attack.json", "attack.md"
NAMES = {
    "reference": "a model that never saw the images",
    "unseen": "the model, with pictures that it never saw",
    None: "",
}
WORDS = {
    "keep": "training on keep images alone",
    "image": "training on the images themselves",
    "view": "training on a view of the images",
}


def run_attacks(
    inputs: Inputs,
    relearnings: Sequence[Relearning],
    out: Path,
    *,
    reference: DiffusionModel | None = None,
    membership: Membership | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Attack a model and write ``attack.json``, ``attack.md`` and ``relearning_ON.png``.

    Args:
        inputs: The unlearned model, forget and keep images; with held-out images the membership
            scores are measured against them, too, and they stand in for a missing reference.
        relearnings: What is relearned on, and how.
        out: Folder for the files.
        reference: A model that never saw the forget images, or None.
        membership: How membership is measured; the measure's own settings by default.
        overwrite: Replace an attack in ``out``.

    Returns:
        The content of ``attack.json``.

    Raises:
        ValueError: Before any work, if ``out`` holds a finished run or another one, or inputs are
            missing or do not fit.
    """
    if inputs.forget is None or inputs.keep is None:
        raise ValueError("attacks need --forget and --keep")
    check_inputs(inputs)
    measure = membership or Membership()
    if inputs.held_out is not None:
        measure.check(inputs)
    facts = described(inputs, relearnings, measure, reference)
    declared = {"relearning": list(relearnings), "membership": measure}
    sides = (inputs.model, inputs.forget, inputs.keep)
    plans = [
        planned(*sides, each, reference=reference, unseen=inputs.held_out) for each in relearnings
    ]
    with run_folder(out, facts, overwrite=overwrite, declared=declared) as run:
        found = [plan.run(shown=inputs.shown) for plan in plans]
        scores = membership_results(inputs, measure, reference)
        facts |= {"machine": machine(inputs.model.device), "versions": versions()}
        content = facts | {
            "relearned": {each.settings.on: each.as_json() for each in found},
            "membership_results": {
                who: [result.as_json() for result in results] for who, results in scores.items()
            },
        }
        write_sealed(run.folder / NUMBERS_FILE, content)
        write_pages(found, scores, run.folder)
        run.finish()
    return content


def described(
    inputs: Inputs,
    relearnings: Sequence[Relearning],
    measure: Membership,
    reference: DiffusionModel | None,
) -> dict[str, Any]:
    """What the numbers depend on, as JSON values.

    Raises:
        ValueError: If the reference is no model to compare with.
    """
    facts: dict[str, Any] = {
        **describe_inputs(inputs),
        "kind": "attack",
        "relearning": describe(list(relearnings)),
        "membership": describe(measure),
        "reference": None,
    }
    if reference is not None:
        require_comparable(reference, inputs.model)
        facts["reference"] = describe_model(reference)
    return facts


def membership_results(
    inputs: Inputs, measure: Membership, reference: DiffusionModel | None
) -> dict[str, list[Result]]:
    """Membership against the held-out images, of the model and the reference; empty without."""
    if inputs.held_out is None:
        return {}
    against = replace(inputs, keep=None)
    found = {"model": measure(against)}
    if reference is not None:
        found["reference"] = measure(replace(against, model=reference))
    return found


def write_pages(
    found: Sequence[Relearned], scores: Mapping[str, Sequence[Result]], out: Path
) -> None:
    """Write the tables, and a plot for each relearning."""
    write_atomically(out / TABLE_FILE, table(found, scores).encode())
    for each in found:
        plot = relearning_curve(curves(each))
        assert plot is not None
        write_atomically(out / f"relearning_{each.settings.on}.png", plot)


def curves(found: Relearned) -> list[Curve]:
    """The restored share over steps, all seeds together: the model, and what is beside it."""
    drawn = [("the model", AFTER, found.model)]
    if found.beside:
        drawn.append((NAMES[found.beside_is], REFERENCE, found.beside))
    return [
        Curve(
            label,
            colour,
            {look.step: look.share for look, _ in pooled(courses)},
            {look.step: interval for look, interval in pooled(courses)},
        )
        for label, colour, courses in drawn
    ]


def table(found: Sequence[Relearned], scores: Mapping[str, Sequence[Result]]) -> str:
    """Markdown tables of what was relearned, and of the membership scores if there are any."""
    lines = [
        "| attack | on | restored before | restored at the end | steps until restored, by seed |",
        "|---|---|---|---|---|",
    ]
    for each in found:
        rows = [("the model", each.model, each.returned_after)]
        if each.beside:
            rows.append((NAMES[each.beside_is], each.beside, each.beside_returned_after))
        for who, courses, returned in rows:
            steps = ", ".join("never" if step is None else str(step) for step in returned)
            first, last = _share(courses, 0), _share(courses, -1)
            lines.append(f"| {WORDS[each.settings.on]} | {who} | {first} | {last} | {steps} |")
    if scores:
        others = list(scores)[1:]
        lines += ["", f"| membership | {' | '.join(['the model', *others])} |"]
        lines.append("|---" * (2 + len(others)) + "|")
        for results in zip(*scores.values(), strict=True):
            cells = " | ".join(_cell(result) for result in results)
            lines.append(f"| {results[0].name} | {cells} |")
    return "\n".join(lines) + "\n"


def _share(courses: Sequence[Course], position: int) -> str:
    look, (low, high) = pooled(courses)[position]
    return f"{look.share:.0%} ({low:.0%} to {high:.0%})"


def _cell(result: Result) -> str:
    low, high = result.interval or (float("nan"),) * 2
    return f"{result.value:.3g} ({low:.3g} to {high:.3g})"
