"""Verify a model with its files: numbers, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataunlearn.data.content import describe_images
from dataunlearn.models.identity import describe_model
from dataunlearn.report.verification_page import render_verification
from dataunlearn.runtime.files import write_atomically, write_sealed
from dataunlearn.runtime.machine import machine, versions
from dataunlearn.runtime.progress import Say
from dataunlearn.runtime.run_folder import RunFolder, run_folder
from dataunlearn.runtime.sealed import DamagedFileError, read_sealed
from dataunlearn.runtime.settings import describe
from dataunlearn.runtime.text_files import as_page
from dataunlearn.unlearning.facts import forget_facts
from dataunlearn.verification.battery import Planned, Verified, make_checks, planned
from dataunlearn.verification.check import Checked
from dataunlearn.verification.subject import Subject

NUMBERS_FILE, PAGE_FILE, MADE_FILE = "verification.json", "verification.html", "checks.json"


def verify(subject: Subject, out: Path, *, say: Say, overwrite: bool = False) -> Verified:
    """Make all checks of the subject's effort, and write ``verification.json`` and ``.html``.

    A call that was interrupted goes on after the last check that it made.

    Args:
        subject: What is verified.
        out: Folder for the files.
        say: Where lines for a person go.
        overwrite: Replace a verification in ``out``.

    Raises:
        ValueError: If ``out`` holds a finished run or another one.
    """
    facts = described(subject)
    with run_folder(out, facts, overwrite=overwrite, declared=subject.settings) as run:
        plans = planned(subject)
        say(plan_words(plans))
        made = earlier_checks(run.folder)
        if made:
            say(f"Made before: {', '.join(made)}.")

        def keep(found: Checked) -> None:
            made[found.name] = found
            content = {"checks": [each.as_json() for each in made.values()]}
            write_sealed(run.folder / MADE_FILE, content)
            say(f"{found.name}: {found.words}")

        verified = make_checks(subject, plans, dict(made), keep)
        write_results(subject, verified, facts, run)
    return verified


def described(subject: Subject) -> dict[str, Any]:
    """What the numbers depend on, as JSON values."""
    split = subject.job.split
    models = {"model": subject.model, "before": subject.before, "reference": subject.reference}
    pictures = {"forget": split.forget, "keep": split.keep, "held_out": subject.held_out}
    return {
        "kind": "verification",
        "settings": describe(subject.settings),
        "models": {
            name: None if model is None else describe_model(model) for name, model in models.items()
        },
        "pictures": {
            name: None if images is None else describe_images(images)
            for name, images in pictures.items()
        },
    }


def plan_words(plans: Sequence[Planned]) -> str:
    """The checks and about how long each takes, or what it lacks."""
    width = max(len(plan.check.name) for plan in plans)
    lines = [
        f"  {plan.check.name.ljust(width)}  "
        + (f"about {plan.seconds:.0f} s" if plan.lacks is None else f"left out: {plan.lacks}")
        for plan in plans
    ]
    total = sum(plan.seconds for plan in plans)
    return "\n".join([f"To be made, in about {total:.0f} s:", *lines])


def earlier_checks(folder: Path) -> dict[str, Checked]:
    """The checks that an interrupted call has made, by name; none where its file is damaged."""
    path = folder / MADE_FILE
    if not path.is_file():
        return {}
    try:
        content = read_sealed(path, needs_seal=True)
        found = [Checked.from_json(each) for each in content["checks"]]
    except (DamagedFileError, KeyError, TypeError, ValueError):
        return {}
    return {each.name: each for each in found}


def write_results(
    subject: Subject, verified: Verified, facts: dict[str, Any], run: RunFolder
) -> None:
    """Write numbers and page, and end the run."""
    content = facts | {
        "memory": verified.memory.value,
        "text": verified.text,
        "exit_code": verified.exit_code,
        "checks": [each.as_json() for each in verified.checks],
        "left_out": dict(verified.left_out),
        "forget": forget_facts(subject.job),
        "threshold": subject.job.threshold,
        "machine": machine(subject.model.device),
        "versions": versions(),
    }
    write_sealed(run.folder / NUMBERS_FILE, content)
    write_atomically(run.folder / PAGE_FILE, as_page(render_verification(content)))
    (run.folder / MADE_FILE).unlink(missing_ok=True)
    run.finish()
