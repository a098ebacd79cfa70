"""The HTML page of a run, from its measurements, pictures and training log."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeGuard

import jinja2

from dataunlearn.report import grids, plots
from dataunlearn.report.grids import Images, Picture
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
        images: Name to uint8 ``(N, H, W, C)``: ``forget``, ``before_samples``, ``after_samples``
            and, per timestep t, ``before_regeneration_t`` and ``after_regeneration_t``.
        log: One record per training step.
    """

    report: dict[str, Any]
    images: dict[str, Images]
    log: list[dict[str, Any]]


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
        headlines=headlines(report),
        frequency=_frequency_key(report),
        forget_pictures=_forget_pictures(run.images["forget"]),
        samples=[_grid(run, f"{side}_samples", num_shown) for side in ("before", "after")],
        num_shown=min(num_shown, len(run.images.get("after_samples", ()))),
        starts=_starts(run),
        timesteps=sorted({t for side in ("before", "after") for t in _shares(report[side])}),
        plots=_figures(run),
        digests=_digests(report["forget"]),
    )


def percent(share: Any) -> str:
    """A share in [0, 1] in percent, with more decimals close to 0 % and 100 %."""
    if not _known(share):
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
    if not _known(seconds):
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
    shares = {t: s for t, s in _shares(after).items() if t in _shares(before)}
    if shares:
        main = min(shares, key=lambda t: (abs(t - _HEADLINE_TIMESTEP), t))
        worst = max(shares, key=lambda t: (shares[t], t))
        found = [_regeneration_headline(report, main, "Starting from")]
        if shares[worst] > shares[main]:
            found.append(_regeneration_headline(report, worst, "Where more of it is left, from"))
    key = _frequency_key(report)
    if key:
        note = _count_note(after, after[key], after.get(f"{key}_interval"), "num_samples")
        label = f"{_subject(report).capitalize()} appeared in what the model draws"
        found.append(Headline(label, percent(before.get(key)), percent(after[key]), note))
    if _known(after.get("broken_share")):
        values = percent(before.get("broken_share")), percent(after["broken_share"])
        note = _interval_note(after.get("broken_share_interval"))
        found.append(Headline("Broken pictures among what the model draws", *values, note))
    return found


def _regeneration_headline(report: Mapping[str, Any], timestep: int, start: str) -> Headline:
    before, after = report["before"], report["after"]
    share = _shares(after)[timestep]
    interval = (after.get("regeneration_interval") or {}).get(str(timestep))
    note = _count_note(after, share, interval, "regeneration_copies")
    reference = _shares(report.get("reference") or {}).get(timestep)
    if reference is not None:
        note += f"; a model that never saw the picture: {percent(reference)}"
    elif timestep < _STARTS[0][0]:
        note += "; so clear a copy can be completed without knowing the picture"
    words = start_words(timestep)
    article = "an" if words[0] in "aeiou" else "a"
    label = f"{start} {article} {words} copy, the model restored {_subject(report)}"
    shown = percent(_shares(before)[timestep]), percent(share)
    return Headline(label, *shown, note)


def _subject(report: Mapping[str, Any]) -> str:
    digests = report["forget"].get("digests") or []
    return "one of the pictures" if len(set(digests)) > 1 else "the picture"


def _count_note(side: Mapping[str, Any], share: float, interval: Any, count_key: str) -> str:
    total = side.get(count_key)
    limits = _interval_note(interval) if share else ""
    if not share and interval:
        limits = f"{percent(interval[1])} or less"
    if not _known(total):
        return limits
    unit = "tries" if "copies" in count_key else "drawings"
    counted = f"{round(share * total)} of {total} {unit}"
    return f"{counted} ({limits})" if limits else counted


def _interval_note(interval: Any) -> str:
    return f"between {percent(interval[0])} and {percent(interval[1])}" if interval else ""


def _known(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def _shares(side: Mapping[str, Any]) -> dict[int, float]:
    shares = side.get("regeneration") or {}
    return {int(t): shares[t] for t in sorted(shares, key=int) if _known(shares[t])}


def _frequency_key(report: Mapping[str, Any]) -> str | None:
    """What the share of copies among the samples is called in this run, if it was measured."""
    evaluation = (report.get("settings") or {}).get("evaluation") or {}
    named = [evaluation.get("frequency_name")]
    endings = [key for key in report["after"] if key.endswith("_frequency")]
    return next((key for key in (*named, *endings) if _known(report["after"].get(key))), None)


def _forget_pictures(forget: Images) -> list[Picture]:
    shown = grids.distinct(forget)[:_NUM_FORGET_SHOWN]
    small = forget.shape[2] <= grids.PIXEL_ART_LIMIT
    enlarged = 1 + small + (len(shown) == 1)
    return [grids.embed(image[None], columns=1, enlarged=enlarged) for image in shown]


def _grid(run: Run, name: str, num_images: int) -> Picture | None:
    images, forget = run.images.get(name), run.images["forget"]
    if images is None or not len(images):
        return None
    shown, threshold, marked = images[:num_images], run.report.get("threshold"), None
    if _known(threshold) and shown.shape[1:] == forget.shape[1:]:
        marked = grids.count_as_copies(shown, grids.distinct(forget), threshold)
    return grids.embed(shown, marked=marked)


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


def _curves(report: Mapping[str, Any]) -> list[plots.Curve]:
    before, after, reference = _sides(report)
    styles = [
        ("before", plots.BEFORE, before),
        ("after", plots.AFTER, after),
        (str(reference.get("label", "reference")), plots.REFERENCE, reference),
    ]
    return [plots.Curve(label, colour, _shares(s), _intervals(s)) for label, colour, s in styles]


def _sides(report: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """What was measured before, after, and of the reference, which may be nothing."""
    return report["before"], report["after"], report.get("reference") or {}


def _level_curves(report: Mapping[str, Any]) -> list[plots.Curve]:
    """Losses over levels of the models that they were measured of."""
    found = []
    for curve, side in zip(_curves(report), _sides(report), strict=True):
        numbers = side.get("over_level") or {}
        steps = numbers.get("timesteps") or []
        ratios = dict(zip(steps, numbers.get("mean") or [], strict=False))
        bounds = dict(zip(steps, numbers.get("intervals") or [], strict=False))
        known = {t: ratio for t, ratio in ratios.items() if _known(ratio) and ratio > 0}
        found.append(replace(curve, shares=known, intervals=bounds))
    return found


def _intervals(side: Mapping[str, Any]) -> dict[int, tuple[float, float]]:
    intervals = side.get("regeneration_interval") or {}
    return {int(t): (pair[0], pair[1]) for t, pair in intervals.items() if pair}


def _digests(forget: Mapping[str, Any]) -> list[tuple[tuple[str, ...], int]]:
    """Name, hash of the file and hash of the pixels of each picture, and how often they occur."""
    columns = [forget.get(key) or [] for key in ("names", "file_sha256", "digests")]
    return list(Counter(zip_longest(*columns)).items())


def _figures(run: Run) -> dict[str, Picture]:
    report = run.report
    drawn = {
        "regeneration": plots.regeneration_curve(_curves(report)),
        "level": plots.level_curve(_level_curves(report), report["verdict"].get("level_band")),
        "classes": plots.class_histogram(
            report["before"].get("class_histogram"), report["after"].get("class_histogram")
        ),
        **training_figures(run.log),
    }
    return {name: grids.embed_png(png, 0, False) for name, png in drawn.items() if png}
