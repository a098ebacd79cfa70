"""Make docs/results/mnist_tshirt_small.{md,json} and its pictures: every method, equal steps.

    python scripts/mnist_tshirt_small_results.py --out docs/results

Each finished run is kept in --work, and a second call goes on from there. Seeds: training 0, 1, 2;
evaluation 20262, which nothing was tuned on.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import subprocess
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dataunlearn import (
    BernoulliSubscore,
    EraseDiff,
    NaiveDeletion,
    NegGrad,
    NormFix,
    SISSNoIS,
    Uniform,
)
from dataunlearn.checkpoint import write_atomically
from dataunlearn.config import Evaluation
from dataunlearn.job import prepare
from dataunlearn.metrics.suite import Measurement, compare_quality, measure
from dataunlearn.models import load_model
from dataunlearn.recipes.demo import demo
from dataunlearn.report.facts import machine
from dataunlearn.report.grids import save_grid
from dataunlearn.report.plots import Curve, regeneration_curve
from dataunlearn.rundir import describe
from dataunlearn.sampling import to_uint8
from dataunlearn.unlearning import make_trainer
from dataunlearn.unlearning_config import StopRule

EVALUATION_SEED = 20262
BEGIN, END = "<!-- table, written by the script -->", "<!-- end of table -->"
TIMESTEPS = (100, 200, 250, 300, 400, 500, 600, 700, 800, 900, 999)
REFERENCE = Path("models/mnist_tshirt_small_without")
NEVER_SAW_IT = "never saw it"
# The methods as the paper compares them: uniform timesteps, norm fixing at a tenth of the keep
# gradient, all steps with the forget side on.
PLAIN: dict[str, Any] = {
    "timesteps": Uniform(),
    "steps": 100,
    "learning_rate": 2e-4,
    "stop": StopRule(every_steps=0),
}
TENTH = {"combination": NormFix(ratio=0.1)}
RUNS: dict[str, dict[str, Any]] = {
    "SISS, seed 0": {},
    "SISS, seed 1": {"seed": 1},
    "SISS, seed 2": {"seed": 2},
    "plain SISS": {**PLAIN, **TENTH},
    "plain No-IS": {**PLAIN, **TENTH, "objective": SISSNoIS()},
    "plain Bernoulli": {**PLAIN, **TENTH, "objective": BernoulliSubscore()},
    "naive deletion": {**PLAIN, "objective": NaiveDeletion()},
    "NegGrad": {**PLAIN, "objective": NegGrad()},
    "EraseDiff": {**PLAIN, "objective": EraseDiff()},
}
COLOURS = (
    *("#0b6e99", "#3f93b8", "#7fbad4", "#1b3a4b"),
    *("#2d7d46", "#7a5195", "#c98a1b", "#b5402f", "#555555", "#000000"),
)


def evaluation(num_samples: int, copies: int) -> Evaluation:
    """The held-out measurement: other seeds than anything was tuned on."""
    return Evaluation(
        num_samples=num_samples,
        regeneration_timesteps=TIMESTEPS,
        regeneration_copies=copies,
        threshold=10.0,
        digits=True,
        frequency_name="tshirt_frequency",
        batch_size=100,
        seed=EVALUATION_SEED,
    )


def run(name: str, settings: Evaluation, base: Baseline, work: Path) -> dict[str, Any]:
    """Unlearn with one method, measure, and return its numbers."""
    config = dataclasses.replace(demo(), evaluation=settings, reference=None, **RUNS[name])
    job = prepare(config)
    trainer = make_trainer(job, out=None, accelerator=None, shown=True)
    started = time.perf_counter()
    log = trainer.run()
    trainer.use_average()
    seconds = time.perf_counter() - started
    after = measure(job.model, job.originals, job.threshold, settings, label=f"measuring {name}")
    save_grid(to_uint8(after.samples[:16]), work / f"{slug(name)}.png", columns=16, scale=2)
    return {
        "name": name,
        "objective": str(config.objective),
        "combination": str(job.combination),
        "timesteps": str(config.timesteps),
        "stop": str(config.stop),
        "seed": config.seed,
        "training": describe(job.training),
        "seconds": seconds,
        "steps": len(log),
        "settled_after": trainer.settled_after,
        "rows_forward": sum(record["forward_rows"] for record in log),
        "rows_backward": sum(record["backward_rows"] for record in log),
        "after": after.numbers,
        "change": describe(compare_quality(base.measurement, after)),
    }


def run_reference(settings: Evaluation, base: Baseline, work: Path) -> dict[str, Any]:
    """Measure the model that never saw the T-shirt; its seeds' noise is everybody's."""
    job = prepare(dataclasses.replace(demo(), evaluation=settings, reference=None))
    model = load_model(REFERENCE)
    model.denoiser.eval()
    found = measure(model, job.originals, job.threshold, settings, label="measuring the reference")
    save_grid(to_uint8(found.samples[:16]), work / f"{slug(NEVER_SAW_IT)}.png", columns=16, scale=2)
    change = describe(compare_quality(base.measurement, found))
    return {"name": NEVER_SAW_IT, "after": found.numbers, "change": change}


def slug(name: str) -> str:
    """A file name."""
    return name.lower().replace(",", "").replace(" ", "_")


def curves(before: dict[str, Any], runs: Sequence[dict[str, Any]]) -> list[Curve]:
    """Regeneration curves of all runs."""
    sides = [("before", "#8a8f98", before)]
    sides += [(r["name"], colour, r["after"]) for r, colour in zip(runs, COLOURS, strict=False)]
    return [
        Curve(
            label,
            colour,
            {int(t): share for t, share in numbers["regeneration"].items()},
            {int(t): (low, high) for t, (low, high) in numbers["regeneration_interval"].items()},
        )
        for label, colour, numbers in sides
    ]


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"


def table(before: dict[str, Any], runs: Sequence[dict[str, Any]]) -> str:
    """The Markdown table of all runs."""
    head = (
        "| | T-shirt from t=250 | t=500 | worst t≥500 | in samples | IS | IS after/before (95 %) | "
        "broken | forgotten at step | s | rows fwd / bwd |\n" + "|---" * 11 + "|\n"
    )
    return head + "\n".join(
        [row("before", before, None)] + [row(r["name"], r["after"], r) for r in runs]
    )


def row(name: str, numbers: dict[str, Any], found: dict[str, Any] | None) -> str:
    """One line of the table."""
    shares = numbers["regeneration"]
    worst = max(share for t, share in shares.items() if int(t) >= 500)
    frequency = numbers["tshirt_frequency"]
    median = numbers["regeneration_median_distance"]["250"]
    cells = [
        name,
        f"{percent(shares['250'])} (median L2 {median:.1f})",
        percent(shares["500"]),
        percent(worst),
        f"{round(frequency * numbers['num_samples'])} of {numbers['num_samples']}",
        f"{numbers['inception_score']:.2f}",
    ]
    if found is None:
        return "| " + " | ".join([*cells, "", percent(numbers["broken_share"]), "", "", ""]) + " |"
    change = found["change"]
    low, high = change["score_ratio_interval"]
    cells += [
        f"{change['score_ratio']:.3f} ({low:.3f}–{high:.3f})",
        percent(numbers["broken_share"]),
        str(found.get("settled_after") or "–"),
        f"{found['seconds']:.0f}" if "seconds" in found else "–",
        f"{found['rows_forward']} / {found['rows_backward']}" if "seconds" in found else "–",
    ]
    return "| " + " | ".join(cells) + " |"


def commit() -> str:
    """The commit that the code is at."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cached(path: Path, make: Any) -> Any:
    """A JSON value from ``path``, or made and kept there."""
    if path.is_file():
        return json.loads(path.read_text())
    value = make()
    write_atomically(path, json.dumps(value, indent=1).encode())
    return value


def refresh(page: Path, text: str) -> None:
    """Put the table into the page, between its markers."""
    head, rest = page.read_text().split(BEGIN)
    tail = rest.split(END)[1]
    write_atomically(page, f"{head}{BEGIN}\n{text}\n{END}{tail}".encode())


def strips(names: Sequence[str], work: Path) -> bytes:
    """All methods' first 16 samples, one labelled line each, as a PNG."""
    figure = Figure(figsize=(9, 0.62 * len(names)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for line, name in enumerate(names):
        axes = figure.add_subplot(len(names), 1, line + 1)
        axes.imshow(np.asarray(Image.open(work / f"{slug(name)}.png")))
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


class Baseline:
    """The model before unlearning, measured when it is first needed."""

    def __init__(self, settings: Evaluation, work: Path) -> None:
        self.settings, self.work = settings, work

    @cached_property
    def measurement(self) -> Measurement:
        """Samples and regenerations of the shipped model."""
        job = prepare(dataclasses.replace(demo(), evaluation=self.settings, reference=None))
        found = measure(
            job.model, job.originals, job.threshold, self.settings, label="measuring before"
        )
        save_grid(to_uint8(found.samples[:16]), self.work / "before.png", columns=16, scale=2)
        return found

    def facts(self) -> dict[str, Any]:
        """Numbers, and what they were made with."""
        return {
            "commit": commit(),
            "machine": machine(torch.device("cpu")),
            "evaluation": describe(self.settings),
            "numbers": self.measurement.numbers,
        }


def main() -> None:
    """Run what is missing, then write the table, the numbers and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("runs/mnist_tshirt_small_results"))
    parser.add_argument("--num-samples", type=int, default=2000)
    parser.add_argument("--copies", type=int, default=64)
    arguments = parser.parse_args()
    out, work = arguments.out, arguments.work
    work.mkdir(parents=True, exist_ok=True)
    settings = evaluation(arguments.num_samples, arguments.copies)
    base = Baseline(settings, work)
    facts = cached(work / "before.json", base.facts)
    runs: list[dict[str, Any]] = []
    for name in RUNS:
        path = work / f"{slug(name)}.json"
        runs.append(cached(path, partial(run, name, settings, base, work)))
        publish(facts, runs, out, work)
    if REFERENCE.is_dir():
        path = work / f"{slug(NEVER_SAW_IT)}.json"
        runs.append(cached(path, partial(run_reference, settings, base, work)))
        publish(facts, runs, out, work)
    print(table(facts["numbers"], runs))


def publish(facts: dict[str, Any], runs: Sequence[dict[str, Any]], out: Path, work: Path) -> None:
    """Write what there is so far: numbers, table, curve and samples."""
    command = "python scripts/mnist_tshirt_small_results.py"
    content = {"command": command, **facts, "runs": runs}
    write_atomically(out / "mnist_tshirt_small.json", json.dumps(content, indent=1).encode())
    figure = regeneration_curve(curves(facts["numbers"], runs))
    assert figure is not None
    write_atomically(out / "mnist_tshirt_small_regeneration.png", figure)
    names = ["before", *(found["name"] for found in runs)]
    write_atomically(out / "mnist_tshirt_small_samples.png", strips(names, work))
    refresh(out / "mnist_tshirt_small.md", table(facts["numbers"], runs))


if __name__ == "__main__":
    main()
