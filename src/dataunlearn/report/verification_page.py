"""The page of a verification: the verdict, what was tried, beside what, and what was not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from dataunlearn.report.grids import Picture, embed_png
from dataunlearn.report.plots import AFTER, REFERENCE, Curve, relearning_curve

_FOLDER = Path(__file__).parent
TONES = {
    "as if never seen": "good",
    "still known": "bad",
    "pushed past it": "bad",
    "cannot tell": "fair",
    None: "",
}


def render_verification(content: Mapping[str, Any]) -> str:
    """The page as one string of HTML that refers to nothing outside itself.

    Args:
        content: What ``verification.json`` holds.
    """
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(_FOLDER),
    )
    template = environment.get_template("verification.html")
    plots = {each["name"]: relearning_plot(each) for each in content["checks"]}
    return template.render(content=content, tones=TONES, plots=plots)


def relearning_plot(check: Mapping[str, Any]) -> Picture | None:
    """The restored share over steps, all seeds together; None of another check."""
    numbers = check["numbers"]
    if "returned_after" not in numbers:
        return None
    curves = [
        Curve(label, colour, shares(numbers[key]), {})
        for label, colour, key in (
            ("the model", AFTER, "model"),
            ("beside it", REFERENCE, "beside"),
        )
        if numbers[key]
    ]
    png = relearning_curve(curves)
    return None if png is None else embed_png(png, 0, False)


def shares(courses: Any) -> dict[int, float]:
    """Step to the share of all seeds' tries that were restored after it.

    A training that ended when the images had returned counts on as it ended.
    """
    found: dict[int, float] = {}
    for step in sorted({look["step"] for course in courses for look in course["looks"]}):
        looks = [[x for x in course["looks"] if x["step"] <= step][-1] for course in courses]
        restored = sum(look["restored"] for look in looks)
        found[step] = restored / sum(look["tries"] for look in looks)
    return found
