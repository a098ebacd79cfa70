"""The page about unlearned prompts: verdict, numbers, and the pictures that let a reader see it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from dataunlearn.data.pixels import to_uint8
from dataunlearn.metrics.intervals import wilson
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.measuring import PromptRun
from dataunlearn.prompts.samples import LabelledPrompt
from dataunlearn.report.gallery_page import render_gallery_page
from dataunlearn.report.grids import Picture, embed
from dataunlearn.report.plots import png
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.text_files import as_page

REPORT_FILE = "report.html"
SHOWN_SAMPLES = 16
COLUMNS = 8
NAMES = {
    "original_memorised_fraction": "Memorised samples, original prompts",
    "original_mitigated_share_8": "Prompts without any among 8 samples",
    "original_mitigated_share_16": "Prompts without any among 16 samples",
    "original_copy_similarity": "Similarity to the memorised picture, original prompts",
    "modified_memorised_fraction": "Memorised samples, modified prompts",
    "modified_mitigated_share_8": "Modified prompts without any among 8 samples",
    "modified_mitigated_share_16": "Modified prompts without any among 16 samples",
    "modified_copy_similarity": "Similarity to the memorised picture, modified prompts",
    "text_noise": "Text-noise norm at the first step",
    "clip_iqa": "Quality (CLIP-IQA)",
}


@dataclass(frozen=True)
class Entry:
    """One prompt on the page; pictures are None where there is nothing to show."""

    prompt: str
    before: float
    after: float
    labelled: float
    num_labelled: int
    original: Picture | None
    samples_before: Picture | None
    samples_after: Picture | None
    modified_after: Picture | None


def write_report(
    config: PromptUnlearning,
    prompts: Sequence[LabelledPrompt],
    runs: Sequence[PromptRun],
    facts: Mapping[str, Any],
) -> Path:
    """Write ``report.html``, one file that refers to nothing outside itself.

    Returns:
        The file.
    """
    entries = [entry for run in runs for entry in entries_of(run)]
    page = render_gallery_page(
        "prompts.html",
        facts=facts,
        entries=sorted(entries, key=lambda entry: -entry.after),
        runs=[table(run) for run in runs],
        skipped=[prompt for prompt in prompts if not prompt.labelling.labels.any()],
        num_samples=config.fresh_samples,
        upper_bound=wilson(0, config.fresh_samples)[1],
        plots=[plot(entries)],
        galleries=[
            {"name": short(prompt.data.prompt), "address": gallery_address(prompt, config.out)}
            for prompt in prompts
        ],
    )
    file = config.out / REPORT_FILE
    write_atomically(file, as_page(page))
    return file


def gallery_address(prompt: LabelledPrompt, out: Path) -> str:
    """Where a prompt's gallery is, from the report's folder where it lies below it."""
    gallery = prompt.gallery
    return str(gallery.relative_to(out)) if gallery.is_relative_to(out) else gallery.as_uri()


def entries_of(run: PromptRun) -> list[Entry]:
    """The prompts of a run, in their order."""
    shares = [
        measured.results["original_memorised_fraction"].per_item
        for measured in (run.before, run.after)
    ]
    before, after = (items.tolist() if items is not None else [] for items in shares)
    has_modified = [prompt.data.modified is not None for prompt in run.prompts]
    found = []
    for number, prompt in enumerate(run.prompts):
        modified = None
        if has_modified[number]:
            modified = run.after.samples["modified"][sum(has_modified[:number])]
        found.append(
            Entry(
                prompt.data.prompt,
                before[number],
                after[number],
                prompt.labelling.share,
                len(prompt.images),
                None if prompt.original is None else shown(prompt.original[None]),
                shown(run.before.samples["original"][number]),
                shown(run.after.samples["original"][number]),
                None if modified is None else shown(modified),
            )
        )
    return found


def shown(images: Tensor) -> Picture:
    """The first pictures ``(N, C, H, W)`` as one."""
    few = to_uint8(images[:SHOWN_SAMPLES])
    return embed(few, columns=min(COLUMNS, len(few)))


def table(run: PromptRun) -> dict[str, Any]:
    """The numbers of a run, in words."""
    facts, results = run.facts, run.facts["results"]
    reference = facts["reference"] or {}
    lines = [
        {
            "name": title,
            "before": words(results["before"][name]),
            "after": words(after),
            "reference": words(reference[name]) if name in reference else None,
        }
        for name, title in NAMES.items()
        if (after := results["after"].get(name)) is not None
    ]
    title = "All prompts in one run" if len(run.prompts) > 1 else run.prompts[0].data.prompt
    return {
        "title": title,
        "lines": lines,
        "has_reference": bool(reference),
        "steps": facts["steps"],
        "seconds": facts["seconds"]["unlearning"],
        "path": facts["model"]["path"],
        "hash_before": facts["model"]["before"],
        "hash_after": facts["model"]["after"],
        "drift": results.get("drift", {}).get("value"),
        "yardstick": results.get("drift_of_another_seed", {}).get("value"),
    }


def words(result: Mapping[str, Any]) -> str:
    """A number with its interval."""
    value, interval = result["value"], result["interval"]
    is_share = "fraction" in result["name"] or "share" in result["name"]
    form = "{:.1%}" if is_share else "{:.3g}"
    bounds = "" if interval is None else " ({} to {})".format(*map(form.format, interval))
    return form.format(value) + bounds


def plot(entries: Sequence[Entry]) -> str:
    """Memorised share of each prompt before and after, as the data address of a PNG."""
    figure = Figure(figsize=(8.2, 1.3 + 0.3 * len(entries)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, entry in enumerate(sorted(entries, key=lambda e: e.before)):
        axes.plot([entry.before, entry.after], [row, row], color="#c9ced6", zorder=1)
        axes.scatter(
            entry.before, row, 70, facecolor="none", edgecolor="#a32d22", zorder=2, label="before"
        )
        axes.scatter(entry.after, row, 24, color="#1d6b40", zorder=3, label="after")
    axes.set_yticks(range(len(entries)))
    prompts = [short(entry.prompt) for entry in sorted(entries, key=lambda e: e.before)]
    axes.set_yticklabels(prompts, fontsize=9, parse_math=False)
    axes.set(xlim=(-0.03, 1.03), xlabel="share of fresh samples that are memorised")
    axes.set_ylim(-0.6, len(entries) - 0.4)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[:2], labels[:2], loc="outside upper right", ncols=2, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return "data:image/png;base64," + base64.b64encode(png(figure)).decode()


def short(text: str, length: int = 48) -> str:
    """A text of at most so many letters."""
    return text if len(text) <= length else text[: length - 1] + "…"
