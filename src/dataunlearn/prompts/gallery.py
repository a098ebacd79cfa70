"""The gallery of a prompt: its samples with their labels, and how to correct one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dataunlearn.data.pixels import to_uint8
from dataunlearn.prompts.labels import BY_HAND, Labelling
from dataunlearn.prompts.published_layout import LABELS_FILE, PromptData
from dataunlearn.report.gallery_page import render_gallery_page
from dataunlearn.report.grids import Picture, embed


@dataclass(frozen=True)
class Sample:
    """One sample on the page."""

    name: str
    picture: Picture


def render_gallery(
    data: PromptData,
    images: Tensor,
    *,
    training_image: Tensor | None = None,
    labelling: Labelling | None = None,
) -> str:
    """The page as one string of HTML that refers to nothing outside itself.

    Args:
        data: The prompt, with its labels.
        images: Its samples ``(N, C, H, W)`` in [-1, 1] with C = 1 or 3, in the order of its files.
        training_image: ``(C, H, W)`` in [-1, 1]; shown first, if given.
        labelling: What the labels come from; None leaves that out.

    Raises:
        ValueError: If there are more or fewer images than files.
    """
    if len(images) != len(data.files):
        raise ValueError(f"{len(images)} images for {len(data.files)} files of {data.folder}")
    samples = [
        Sample(file.name, _embed(image)) for file, image in zip(data.files, images, strict=True)
    ]
    memorised = [sample for sample in samples if data.labels[sample.name]]
    others = [sample for sample in samples if not data.labels[sample.name]]
    return render_gallery_page(
        "prompt_gallery.html",
        data=data,
        original=None if training_image is None else _embed(training_image),
        groups=(("Memorised", True, memorised), ("Not memorised", False, others)),
        num_memorised=len(memorised),
        reason="" if labelling is None else explain(data, labelling),
        labels_file=data.folder / LABELS_FILE,
        example=samples[0].name,
    )


def explain(data: PromptData, labelling: Labelling) -> str:
    """How the labels came about, in a few sentences."""
    found = torch.tensor([bool(data.labels[file.name]) for file in data.files])
    if labelling.decided_by == BY_HAND or not torch.equal(found, labelling.labels.cpu()):
        return "These labels were given or corrected by a person."
    evidence = labelling.evidence
    compared = (
        f"Samples were sorted into two clusters; {labelling.decided_by} told which one "
        f"may be memorised. Its pictures are {evidence.likeness:.2f} alike (1 for copies of one "
        "picture)"
    )
    if math.isfinite(evidence.isolation):
        times = f"{evidence.isolation:.1f} times as far from its centre as they do"
        compared += f", and the others lie {times}"
    verdicts = {
        "mixed": "So it is memorised, and the others are something else.",
        "all memorised": "So all are one picture.",
        "none memorised": "So it is no memorised picture.",
    }
    return f"{compared}. {verdicts[labelling.verdict]}"


def _embed(image: Tensor) -> Picture:
    return embed(to_uint8(image[None]), columns=1)
