"""The gallery of a prompt: its samples with their labels, and how to correct one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jinja2
import torch
from torch import Tensor

from dataunlearn.data.pixels import to_uint8
from dataunlearn.prompts.labels import BY_HAND, Labelling
from dataunlearn.prompts.published_layout import LABELS_FILE, PromptData
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
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_TEMPLATE).render(
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


_TEMPLATE = """\
{% macro shown(picture, words, marked) %}
<figure{% if marked %} class="marked"{% endif %}><img src="{{ picture.uri }}" \
width="{{ picture.width }}" alt="{{ words }}"{% if picture.pixelated %} class="pixels"{% endif %}>\
<figcaption>{{ words }}</figcaption></figure>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Samples of prompt {{ data.name }}</title>
<style>
:root { --ink: #22262c; --soft: #626a75; --line: #dfe2e6; --mark: #c83228; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, \
"Liberation Sans", Arial, sans-serif; }
main { max-width: 1204px; margin: 0 auto; padding: 36px 32px 64px; }
h1 { margin: 0; font-size: 30px; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 40px 0 12px; font-size: 24px; }
p { max-width: 74ch; margin: 8px 0; }
code { overflow-wrap: anywhere; }
figcaption, .note { color: var(--soft); font-size: 14px; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; }
.pixels { image-rendering: pixelated; }
figure { margin: 0; padding: 4px; border: 3px solid transparent; border-radius: 4px; }
figure.marked { border-color: var(--mark); print-color-adjust: exact; }
.row { display: flex; flex-wrap: wrap; gap: 8px; align-items: flex-start; }
</style>
</head>
<body>
<main>
<h1>{{ data.prompt }}</h1>
<p>{{ num_memorised }} of {{ data.files | length }} samples of prompt {{ data.name }} are labelled \
memorised; these are framed. {{ reason }}</p>
<p>To correct a label, change its number in <code>{{ labels_file }}</code> to 1 for memorised or 0 \
for not, as in <code>"{{ example }}": 1</code>; then run the same command again if it \
has not finished, or give the folder of all samples as <code>--prompts</code> of a new run.</p>
{% if original %}
<h2>Training image</h2>
<div class="row">
{{ shown(original, "the training image", false) }}
</div>
{% endif %}
{% for title, marked, samples in groups %}
<h2>{{ title }} ({{ samples | length }})</h2>
<div class="row">
{% for sample in samples %}
{{ shown(sample.picture, sample.name, marked) }}
{% else %}
<p class="note">None.</p>
{% endfor %}
</div>
{% endfor %}
</main>
</body>
</html>
"""
