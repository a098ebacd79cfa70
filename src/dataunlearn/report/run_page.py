"""The HTML page of a run, from its measurements, pictures and training log."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from dataunlearn.report import grids, plots
from dataunlearn.report.grids import Images, Picture
from dataunlearn.report.redaction import Shown, redacted, says
from dataunlearn.report.sides import (
    OtherRun,
    known,
    level_curves,
    regeneration_curves,
    shares,
    sides_of,
)
from dataunlearn.report.training_plots import training_figures

_TEMPLATE = Path(__file__).with_name("run.html")
_NUM_REGENERATIONS_SHOWN = 16
_NUM_FORGET_SHOWN = 4
_HEADLINE_TIMESTEP = 500
_STARTS = (
    (150, "barely destroyed"),
    (400, "partly destroyed"),
    (600, "half-destroyed"),
    (850, "mostly destroyed"),
)


@dataclass(frozen=True)
class Run:
    """What an unlearning run left behind.

    Attributes:
        report: Verdict, settings and measurements, as in ``report.json``.
        images: Name to uint8 ``(N, H, W, C)``: ``forget``, ``before_samples``, ``after_samples``,
            of some models ``before_others`` and ``after_others`` (for other prompts), and, per
            timestep t, ``before_regeneration_t`` and ``after_regeneration_t``.
        log: One record per training step.
        others: Runs that removed the same images otherwise, shown beside it.
        pictures: How what shows the removed pictures appears on the page.
    """

    report: dict[str, Any]
    images: dict[str, Images]
    log: list[dict[str, Any]]
    others: Sequence[OtherRun] = ()
    pictures: Shown = "shown"

    @property
    def threshold(self) -> float | None:
        """The pixel distance under which a picture is marked as a copy; None marks none."""
        value = self.report.get("threshold")
        return None if self.is_purged or not known(value) else float(value)

    @property
    def is_purged(self) -> bool:
        """Whether the run's own files show the removed pictures no more: nothing to compare."""
        return self.report.get("pictures") == "left_out"

    @cached_property
    def displayed(self) -> dict[str, Images]:
        """The pictures as the page shows them."""
        return redacted(self.images, self.threshold, self.pictures)


@dataclass(frozen=True)
class Headline:
    """One big number of the first screen."""

    label: str
    before: str
    after: str
    note: str


@dataclass(frozen=True)
class Start:
    """Attempts to bring the picture back from one timestep."""

    timestep: int
    words: str
    before: Picture | None
    after: Picture | None


def render(run: Run) -> str:
    """The page as one string of HTML that refers to nothing outside itself."""
    report = run.report
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: "" if value is None else value,
    )
    words = (percent, number, duration, plain, start_words)
    environment.filters.update({function.__name__: function for function in words})
    environment.globals.update(percent=percent, number=number)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    num_shown = 4 * grids.grid_columns(run.images["forget"].shape[2])
    return template.render(
        report=report,
        sides=sides_of(report, run.others),
        others=[_other(run, other, num_shown) for other in run.others],
        runs=[("this run", report), *((other.label, other.report) for other in run.others)],
        headlines=headlines(report),
        frequency=_frequency_key(report),
        forget_pictures=_forget_pictures(run),
        samples=[_grid(run, f"{side}_samples", num_shown) for side in ("before", "after")],
        num_shown=min(num_shown, len(run.images.get("after_samples", ()))),
        for_others=[_grid(run, f"{side}_others", num_shown) for side in ("before", "after")],
        starts=_starts(run),
        timesteps=sorted({t for side in ("before", "after") for t in shares(report[side])}),
        plots=_figures(run),
        says_of_pictures=says(run.pictures, purged=run.is_purged),
        digests=_digests(report["forget"]),
    )


def percent(share: Any) -> str:
    """A share in [0, 1] in percent, with more decimals close to 0 % and 100 %."""
    if not known(share):
        return "–"
    value = 100 * float(share)
    digits = 2 if 0 < value < 0.1 or 99.9 < value < 100 else 1
    text = f"{value:.{digits}f}".removesuffix(".0")
    return f"{text}\N{NO-BREAK SPACE}%"


def number(value: Any) -> str:
    """A count in full, any other number to two decimals."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def plain(value: Any) -> str:
    """A setting as the audit tables show it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def duration(seconds: Any) -> str:
    """A time in the largest two units that fit: ``"42 s"``, ``"3 min 5 s"``, ``"2 h 10 min"``."""
    if not known(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_rest} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def start_words(timestep: int) -> str:
    """How destroyed a picture is that was noised to ``timestep`` of 1000, in plain words."""
    return next(
        (words for limit, words in _STARTS if timestep < limit), "almost completely destroyed"
    )


def headlines(report: Mapping[str, Any]) -> list[Headline]:
    """The numbers of the first screen, at most four."""
    before, after = report["before"], report["after"]
    found = []
    restored = {t: s for t, s in shares(after).items() if t in shares(before)}
    if restored:
        main = min(restored, key=lambda t: (abs(t - _HEADLINE_TIMESTEP), t))
        worst = max(restored, key=lambda t: (restored[t], t))
        found = [_regeneration_headline(report, main, "Starting from")]
        if restored[worst] > restored[main]:
            found.append(_regeneration_headline(report, worst, "Where more of it is left, from"))
    key = _frequency_key(report)
    if key:
        note = _count_note(after, after[key], after.get(f"{key}_interval"), "num_samples")
        label = f"{_subject(report).capitalize()} appeared in what the model draws"
        found.append(Headline(label, percent(before.get(key)), percent(after[key]), note))
    if known(after.get("broken_share")):
        values = percent(before.get("broken_share")), percent(after["broken_share"])
        note = _interval_note(after.get("broken_share_interval"))
        found.append(Headline("Broken pictures among what the model draws", *values, note))
    return found


def _regeneration_headline(report: Mapping[str, Any], timestep: int, start: str) -> Headline:
    before, after = report["before"], report["after"]
    share = shares(after)[timestep]
    interval = (after.get("regeneration_interval") or {}).get(str(timestep))
    note = _count_note(after, share, interval, "regeneration_copies")
    reference = shares(report.get("reference") or {}).get(timestep)
    if reference is not None:
        note += f"; a model that never saw the picture: {percent(reference)}"
    elif timestep < _HEADLINE_TIMESTEP:
        note += "; so clear a copy may be completed without knowing the picture"
    words = start_words(timestep)
    article = "an" if words[0] in "aeiou" else "a"
    label = f"{start} {article} {words} copy, the model restored {_subject(report)}"
    shown = percent(shares(before)[timestep]), percent(share)
    return Headline(label, *shown, note)


def _subject(report: Mapping[str, Any]) -> str:
    digests = report["forget"].get("digests") or []
    return "one of the pictures" if len(set(digests)) > 1 else "the picture"


def _count_note(side: Mapping[str, Any], share: float, interval: Any, count_key: str) -> str:
    total = side.get(count_key)
    limits = _interval_note(interval) if share else ""
    if not share and interval:
        limits = f"{percent(interval[1])} or less"
    if not known(total):
        return limits
    unit = "tries" if "copies" in count_key else "drawings"
    counted = f"{round(share * total)} of {total} {unit}"
    return f"{counted} ({limits})" if limits else counted


def _interval_note(interval: Any) -> str:
    return f"between {percent(interval[0])} and {percent(interval[1])}" if interval else ""


def _frequency_key(report: Mapping[str, Any]) -> str | None:
    """What the share of copies among the samples is called in this run, if it was measured."""
    evaluation = (report.get("settings") or {}).get("evaluation") or {}
    named = [evaluation.get("frequency_name")]
    endings = [key for key in report["after"] if key.endswith("_frequency")]
    return next((key for key in (*named, *endings) if known(report["after"].get(key))), None)


def _forget_pictures(run: Run) -> list[Picture]:
    forget, displayed = run.images["forget"], run.displayed["forget"]
    first = np.unique(forget.reshape(len(forget), -1), axis=0, return_index=True)[1]
    shown = displayed[np.sort(first)][:_NUM_FORGET_SHOWN]
    small = forget.shape[2] <= grids.PIXEL_ART_LIMIT
    enlarged = 1 + small + (len(shown) == 1)
    return [grids.embed(image[None], columns=1, enlarged=enlarged) for image in shown]


def _grid(run: Run, name: str, num_images: int) -> Picture | None:
    images, forget = run.images.get(name), run.images["forget"]
    if images is None or not len(images):
        return None
    shown, threshold, marked = images[:num_images], run.threshold, None
    if threshold is not None and shown.shape[1:] == forget.shape[1:]:
        marked = grids.count_as_copies(shown, grids.distinct(forget), threshold)
    return grids.embed(run.displayed[name][:num_images], marked=marked)


def _other(run: Run, other: OtherRun, num_images: int) -> dict[str, Any]:
    """What the page says of another run."""
    images = {**run.images, "after_samples": other.samples}
    shown = replace(run, images={k: v for k, v in images.items() if v is not None})
    samples = None if other.samples is None else _grid(shown, "after_samples", num_images)
    return {"label": other.label, "report": other.report, "samples": samples}


def _starts(run: Run) -> list[Start]:
    names = (re.fullmatch(r"(?:before|after)_regeneration_(\d+)", name) for name in run.images)
    return [
        Start(
            t,
            start_words(t),
            _grid(run, f"before_regeneration_{t}", _NUM_REGENERATIONS_SHOWN),
            _grid(run, f"after_regeneration_{t}", _NUM_REGENERATIONS_SHOWN),
        )
        for t in sorted({int(name[1]) for name in names if name})
    ]


def _digests(forget: Mapping[str, Any]) -> list[tuple[tuple[str, ...], int]]:
    """Name, hash of the file and hash of the pixels of each picture, and how often they occur."""
    columns = [forget.get(key) or [] for key in ("names", "file_sha256", "digests")]
    return list(Counter(zip_longest(*columns)).items())


def _figures(run: Run) -> dict[str, Picture]:
    report, sides = run.report, sides_of(run.report, run.others)
    drawn = {
        "regeneration": plots.regeneration_curve(regeneration_curves(sides)),
        "level": plots.level_curve(level_curves(sides), report["verdict"].get("level_band")),
        "classes": plots.class_histogram(
            report["before"].get("class_histogram"), report["after"].get("class_histogram")
        ),
        **training_figures(run.log),
    }
    return {name: grids.embed_png(png, 0, False) for name, png in drawn.items() if png}
