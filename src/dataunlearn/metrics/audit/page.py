"""The gallery of an audit: each image with its best restorations, nearest sample and relatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dataunlearn.data.pixels import to_uint8
from dataunlearn.metrics.audit.audit import AuditedImage
from dataunlearn.report.gallery_page import render_gallery_page
from dataunlearn.report.grids import Picture, embed

MOST_DETAILED = 200


@dataclass(frozen=True)
class Entry:
    """One image on the page; pictures are None where there is nothing to show."""

    image: AuditedImage
    original: Picture
    tries: Picture | None
    sample: Picture | None
    relatives: Picture | None


def render_audit(content: Mapping[str, Any], found: Sequence[AuditedImage]) -> str:
    """The page as one string of HTML that refers to nothing outside itself."""
    ranked = sorted(found, key=lambda image: (not image.memorised, -max_share(image)))
    return render_gallery_page(
        "audit.html",
        content=content,
        entries=[_entry(image) for image in ranked[:MOST_DETAILED]],
        num_images=len(ranked),
        timesteps=sorted(found[0].regeneration) if found else [],
    )


def max_share(image: AuditedImage) -> float:
    """Its largest share of restored tries."""
    return max(image.regeneration.values(), default=0.0)


def _entry(image: AuditedImage) -> Entry:
    original = _embed(image.pictures["original"])
    assert original is not None
    return Entry(
        image,
        original,
        _embed(image.pictures["tries"]),
        _embed(image.pictures["sample"]),
        None if image.twins is None else _embed(image.twins.pictures),
    )


def _embed(images: Tensor) -> Picture | None:
    return embed(to_uint8(images), columns=len(images)) if len(images) else None
