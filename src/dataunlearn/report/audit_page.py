"""The gallery of an audit: each image with its best restorations, nearest sample and relatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from torch import Tensor

from dataunlearn.report.grids import Picture, embed
from dataunlearn.sampling import to_uint8

if TYPE_CHECKING:
    from dataunlearn.memorisation import AuditedImage

_TEMPLATE = Path(__file__).with_name("audit.html")
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
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(percent=lambda share: f"{share:.0%}")
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
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
