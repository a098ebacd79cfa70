"""Measure a model: run measures one by one, keep each one's results, skip those that are there."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataunlearn.data import ImageSet
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel
from dataunlearn.models.finite import blank_samples
from dataunlearn.models.saving import hash_weights
from dataunlearn.runtime.files import file_hash, write_atomically
from dataunlearn.runtime.machine import machine, versions
from dataunlearn.runtime.run_folder import claim_run_dir, describe

RESULTS_FILE = "results.json"
TABLE_FILE = "results.md"


def evaluate(
    inputs: Inputs,
    measures: Mapping[str, Measure],
    out: Path | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Run measures and keep their results.

    Args:
        inputs: The model and images. With ``out``, its samples are kept there.
        measures: The measures, by name.
        out: Folder for ``results.json`` and ``results.md``, written after each measure; None
            keeps everything in memory. Measures whose results with the same settings are there
            already are not run again.
        overwrite: Start anew, whatever ``out`` holds.

    Returns:
        The content of ``results.json``: ``measures`` has for each name its settings, its seconds
        and its results as :meth:`dataunlearn.metrics.result.Result.as_json` gives them.

    Raises:
        ValueError: Before any work: if a measure lacks an input, or ``out`` holds results of
            another model or of other inputs.
    """
    for name, measure in measures.items():
        try:
            measure.check(inputs)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    facts = describe_inputs(inputs)
    found_on = {"machine": machine(inputs.model.device), "versions": versions()}
    content: dict[str, Any] = {"inputs": facts, **found_on, "warning": None, "measures": {}}
    if out is not None:
        claim_run_dir(out, facts, overwrite=overwrite)
        inputs.cache = out
        if (out / RESULTS_FILE).is_file():
            earlier = json.loads((out / RESULTS_FILE).read_text())
            content |= {"measures": earlier["measures"], "warning": earlier.get("warning")}
    for name, measure in measures.items():
        if content["measures"].get(name, {}).get("settings") == describe(measure):
            continue
        started = time.perf_counter()
        results = [require_finite(result, name).as_json() for result in measure(inputs)]
        content["warning"] = drew_nothing(inputs) or content["warning"]
        content["measures"][name] = {
            "settings": describe(measure),
            "seconds": time.perf_counter() - started,
            "results": results,
        }
        if out is not None:
            write_atomically(out / RESULTS_FILE, json.dumps(content, indent=1).encode())
            write_atomically(out / TABLE_FILE, table(content).encode())
    return content


def require_finite(result: Result, measure: str) -> Result:
    """A result, if it is a number.

    Raises:
        ValueError: If it is not.
    """
    if not math.isfinite(result.value):
        raise ValueError(
            f"{measure}: {result.name} is {result.value}, which says nothing: the model's "
            "predictions, or the pictures that it was measured on, are at fault"
        )
    return result


def drew_nothing(inputs: Inputs) -> str | None:
    """In words, that the model's samples show nothing; None if they do, or none were drawn."""
    return blank_samples(inputs.samples) if "samples" in vars(inputs) else None


def describe_inputs(inputs: Inputs) -> dict[str, Any]:
    """What the numbers depend on besides the measures' own settings, as JSON values."""
    sides = {side: getattr(inputs, side) for side in ("forget", "keep", "held_out")}
    return {
        "kind": "evaluation",
        "model": _describe_model(inputs.model),
        "before": None if inputs.before is None else _describe_model(inputs.before),
        **({} if inputs.reference is None else {"reference": _describe_model(inputs.reference)}),
        **{side: _describe_set(images) for side, images in sides.items()},
        "reference_samples": _describe_file(inputs.reference_samples),
        "prompts": describe(list(inputs.asked_for())),
        "guidance": inputs.model.guidance,
        "num_samples": inputs.num_samples,
        "sampling_steps": inputs.sampling_steps,
        "max_images": inputs.max_images,
        "batch_size": inputs.batch_size,
        "seed": inputs.seed,
    }


def table(content: Mapping[str, Any]) -> str:
    """A Markdown table of everything that was measured."""
    warning = content.get("warning")
    lines = [] if warning is None else [f"**Beware: {warning}.** Their numbers mean nothing.", ""]
    lines += ["| measure | value | 95 % interval | better |", "|---|---|---|---|"]
    better = {True: "higher", False: "lower", None: "–"}
    for measured in content["measures"].values():
        for found in measured["results"]:
            interval = found["interval"]
            words = "–" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
            direction = better[found["higher_is_better"]]
            lines.append(f"| {found['name']} | {found['value']:.4g} | {words} | {direction} |")
    return "\n".join(lines) + "\n"


def _describe_model(model: DiffusionModel) -> dict[str, Any]:
    return {"path": model.source, "sha256": hash_weights(model)}


def _describe_file(file: Path | None) -> dict[str, str] | None:
    if file is None or not file.is_file():
        return None
    return {"path": str(file), "sha256": file_hash(file)}


def _describe_set(images: ImageSet | None) -> dict[str, Any] | None:
    if images is None:
        return None
    content = hashlib.sha256("".join(images.digests()).encode()).hexdigest()
    return {"first": images.name(0), "count": len(images), "sha256": content}
