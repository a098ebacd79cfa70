"""Measure a model: run measures one by one, keep each one's results, skip those that are there."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataunlearn.data.content import describe_images
from dataunlearn.data.split import require_unseen
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.pace import seconds_per_pass
from dataunlearn.metrics.result import Result
from dataunlearn.models.finite import blank_samples
from dataunlearn.models.identity import describe_model
from dataunlearn.runtime.files import file_hash, write_atomically, write_sealed
from dataunlearn.runtime.machine import machine, versions
from dataunlearn.runtime.run_folder import RunFolder, run_folder
from dataunlearn.runtime.sealed import DamagedFileError, DamagedFileWarning, read_sealed
from dataunlearn.runtime.settings import describe, differences

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
    check_measures(inputs, measures)
    facts = describe_inputs(inputs)
    if out is None:
        return _measured(inputs, measures, facts, None)
    with run_folder(out, facts, overwrite=overwrite) as run:
        return _measured(inputs, measures, facts, run)


def check_measures(inputs: Inputs, measures: Mapping[str, Measure]) -> None:
    """Look, before any work, whether inputs fit each other and what is to be measured.

    Raises:
        ValueError: If they do not.
    """
    check_inputs(inputs)
    for name, measure in measures.items():
        try:
            measure.check(inputs)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error


def prices(
    inputs: Inputs, measures: Mapping[str, Measure], earlier: Path | None = None
) -> dict[str, float]:
    """About how many seconds each measure will take, and drawing the samples it looks at.

    By a few timed passes of the model; what embedders cost is not in it.

    Args:
        inputs: The model and images.
        measures: The measures, by name.
        earlier: A folder with results and samples that are not made again; None for none.
    """
    known = {} if earlier is None else _earlier(earlier / RESULTS_FILE).get("measures", {})
    wanted = {name: each for name, each in measures.items() if not _is_there(known.get(name), each)}
    if not wanted:
        return {}
    pace = seconds_per_pass(inputs.model)
    drawn = dict.fromkeys(side for each in wanted.values() for side in each.looks_at)
    one = inputs.num_samples * inputs.sampling_steps * pace
    kept = [] if earlier is None else [path.stem for path in earlier.glob("*.safetensors")]
    found = {side: one for side in drawn if side not in kept}
    return found | {name: each.cost(inputs).total * pace for name, each in wanted.items()}


def price_words(found: Mapping[str, float]) -> str:
    """The prices in lines; nothing to measure is told, too."""
    if not found:
        return "Everything was measured before."
    width = max(map(len, found))
    names = {side: side.replace("_", " ") for side in found}
    lines = [f"  {names[side].ljust(width)}  about {found[side]:.0f} s" for side in found]
    total = sum(found.values())
    return "\n".join([f"To be measured, in about {total:.0f} s and what embedders take:", *lines])


def check_inputs(inputs: Inputs) -> None:
    """Refuse inputs that do not fit each other, whatever is measured.

    Raises:
        ValueError: If a model that takes no prompts is given some, or a held-out picture is one to
            keep.
    """
    if inputs.prompts:
        inputs.model.space.drawn(range(1), inputs.prompts)
    if inputs.held_out is not None and inputs.keep is not None:
        require_unseen(inputs.held_out, inputs.keep)


def _measured(
    inputs: Inputs, measures: Mapping[str, Measure], facts: dict[str, Any], run: RunFolder | None
) -> dict[str, Any]:
    found_on = {"machine": machine(inputs.model.device), "versions": versions()}
    content: dict[str, Any] = {"inputs": facts, **found_on, "warning": None, "measures": {}}
    if run is not None:
        inputs.cache = run.folder
        content |= _earlier(run.folder / RESULTS_FILE)
    for name, measure in measures.items():
        if _is_there(content["measures"].get(name), measure):
            continue
        started = time.perf_counter()
        results = [require_finite(result, name).as_json() for result in measure(inputs)]
        content["warning"] = drew_nothing(inputs) or content["warning"]
        content["measures"][name] = {
            "settings": describe(measure),
            "seconds": time.perf_counter() - started,
            "results": results,
        }
        if run is not None:
            write_results(content, run.folder)
            run.publish()
            inputs.cache = run.folder
    return content


def write_results(content: dict[str, Any], folder: Path) -> None:
    """Write ``results.json``, with a checksum, and the table ``results.md``."""
    write_sealed(folder / RESULTS_FILE, content)
    write_atomically(folder / TABLE_FILE, table(content).encode())


def _earlier(file: Path) -> dict[str, Any]:
    """What an earlier call measured; nothing, and a warning, if the file is damaged."""
    if not file.is_file():
        return {}
    try:
        found = read_sealed(file)
        return {"measures": dict(found["measures"]), "warning": found.get("warning")}
    except (DamagedFileError, KeyError, TypeError, ValueError):
        words = f"{file} is damaged: everything in it is measured anew."
        warnings.warn(words, DamagedFileWarning, stacklevel=2)
        return {}


def _is_there(known: Any, measure: Measure) -> bool:
    """Whether a measure was taken with these settings."""
    if not isinstance(known, dict) or "settings" not in known or "results" not in known:
        return False
    return not differences(known["settings"], describe(measure), declared=measure)


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
        "model": describe_model(inputs.model),
        "before": None if inputs.before is None else describe_model(inputs.before),
        **({} if inputs.reference is None else {"reference": describe_model(inputs.reference)}),
        **{side: None if x is None else describe_images(x) for side, x in sides.items()},
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


def _describe_file(file: Path | None) -> dict[str, str] | None:
    if file is None or not file.is_file():
        return None
    return {"path": str(file), "sha256": file_hash(file)}
