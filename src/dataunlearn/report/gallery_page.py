"""Pages of pictures in sections: of an audit, of unlearned prompts, of a prompt's samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2


def render_gallery_page(template: str, **values: Any) -> str:
    """A page as one string of HTML that refers to nothing outside itself.

    Args:
        template: A file beside this one.
        **values: What it shows.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(percent=lambda share: f"{share:.0%}")
    return environment.get_template(template).render(**values)
