"""An audit with its files: numbers, table and gallery."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dataunlearn.data import ImageSet
from dataunlearn.data.content import describe_images
from dataunlearn.metrics.audit.audit import AuditedImage, audit_images, audit_inputs, check_audit
from dataunlearn.metrics.audit.config import AuditSettings
from dataunlearn.metrics.audit.page import render_audit
from dataunlearn.models import DiffusionModel
from dataunlearn.models.identity import describe_model
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine, versions
from dataunlearn.runtime.run_folder import run_folder
from dataunlearn.runtime.settings import describe
from dataunlearn.runtime.text_files import as_page


def run_audit(
    model: DiffusionModel,
    images: ImageSet,
    keep: ImageSet | None,
    settings: AuditSettings,
    out: Path,
    *,
    overwrite: bool = False,
    shown: bool = True,
) -> list[AuditedImage]:
    """Audit images and write ``audit.json`` and ``audit.html``; the samples are kept beside them.

    An interrupted audit goes on with the samples that it has.

    Raises:
        ValueError: If ``out`` holds another run or a finished one, or an embedder is missing.
    """
    check_audit(model, settings, has_keep=keep is not None)
    facts = {
        "kind": "audit",
        "model": describe_model(model),
        "images": len(images),
        "keep": None if keep is None else len(keep),
        "settings": describe(settings),
    }
    read = {
        "images": describe_images(images),
        "keep": None if keep is None else describe_images(keep),
    }
    declared = {"settings": settings}
    with run_folder(out, facts, overwrite=overwrite, declared=declared, content=read) as run:
        inputs = audit_inputs(model, images, keep, settings, shown=shown)
        inputs.cache = run.folder
        found = audit_images(
            model, images, keep=keep, settings=settings, inputs=inputs, shown=shown
        )
        content = content_of(found, model, facts)
        write_atomically(run.folder / "audit.json", json.dumps(content, indent=1).encode())
        write_atomically(run.folder / "audit.html", as_page(render_audit(content, found)))
        run.finish()
    return found


def content_of(
    found: Sequence[AuditedImage], model: DiffusionModel, facts: dict[str, Any]
) -> dict[str, Any]:
    """What ``audit.json`` holds; memorised images first."""
    ranked = sorted(found, key=lambda image: not image.memorised)
    return {
        **facts,
        "machine": machine(model.device),
        "versions": versions(),
        "memorised": sum(image.memorised for image in found),
        "audited": [image.as_json() for image in ranked],
    }
