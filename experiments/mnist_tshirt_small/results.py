"""Make docs/results/mnist_tshirt_small.{md,json} and its pictures: every method, equal steps.

    python experiments/mnist_tshirt_small/results.py --out docs/results

Each finished run is kept in --work, and a second call goes on from there. Seeds: training 0, 1, 2;
evaluation 20271, which nothing was tuned on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from dataunlearn import (
    SISS,
    BernoulliSubscore,
    EraseDiff,
    NaiveDeletion,
    NegGrad,
    NormFix,
    SISSNoIS,
    Uniform,
)
from dataunlearn.data.pixels import to_uint8
from dataunlearn.models import load_model
from dataunlearn.recipes.demo import demo
from dataunlearn.report.grids import save_grid
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.machine import machine
from dataunlearn.runtime.settings import describe
from dataunlearn.unlearning.config import Evaluation
from dataunlearn.unlearning.job import Job, prepare
from dataunlearn.unlearning.measuring import Measurement, compare_quality, measure
from dataunlearn.unlearning.method import StopRule
from dataunlearn.unlearning.run import make_trainer

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from mnist_tshirt_small.page import publish, slug, table
from results_page import commit

EVALUATION_SEED = 20271
TIMESTEPS = (100, 200, 250, 300, 400, 500, 600, 700, 800, 900, 999)
REFERENCE = Path("models/mnist_tshirt_small_without")
NEVER_SAW_IT = "never saw it"
# The methods as the paper compares them: uniform timesteps, norm fixing at a tenth of the keep
# gradient, all steps with the forget side on. Steps, rate and schedule are those of the defaults.
PLAIN: dict[str, Any] = {
    "timesteps": Uniform(),
    "stop": StopRule(every_steps=0),
    "keep_towards": "data",
    "norms_every_steps": 1,
}
TENTH = {"combination": NormFix(ratio=0.1)}
RUNS: dict[str, dict[str, Any]] = {
    "SISS, seed 0": {"objective": SISS()},
    "SISS, seed 1": {"objective": SISS(), "seed": 1},
    "SISS, seed 2": {"objective": SISS(), "seed": 2},
    "plain SISS": {**PLAIN, **TENTH, "objective": SISS()},
    "plain No-IS": {**PLAIN, **TENTH, "objective": SISSNoIS()},
    "plain Bernoulli": {**PLAIN, **TENTH, "objective": BernoulliSubscore()},
    "naive deletion": {**PLAIN, "objective": NaiveDeletion()},
    "NegGrad": {**PLAIN, "objective": NegGrad()},
    "EraseDiff": {**PLAIN, "objective": EraseDiff()},
}


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


def demo_job(settings: Evaluation, **changes: Any) -> Job:
    """The demo with these changes; the reference has a row of its own."""
    return prepare(dataclasses.replace(demo(), evaluation=settings, reference=None, **changes))


def run(name: str, settings: Evaluation, base: Baseline, work: Path) -> dict[str, Any]:
    """Unlearn with one method, measure, and return its numbers."""
    job = demo_job(settings, **RUNS[name])
    config = job.config
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
    job = demo_job(settings)
    model = load_model(REFERENCE)
    model.denoiser.eval()
    found = measure(model, job.originals, job.threshold, settings, label="measuring the reference")
    save_grid(to_uint8(found.samples[:16]), work / f"{slug(NEVER_SAW_IT)}.png", columns=16, scale=2)
    change = describe(compare_quality(base.measurement, found))
    return {"name": NEVER_SAW_IT, "after": found.numbers, "change": change}


def cached(path: Path, make: Any) -> Any:
    """A JSON value from ``path``, or made and kept there."""
    if path.is_file():
        return json.loads(path.read_text())
    value = make()
    write_atomically(path, json.dumps(value, indent=1).encode())
    return value


class Baseline:
    """The model before unlearning, measured when it is first needed."""

    def __init__(self, settings: Evaluation, work: Path) -> None:
        self.settings, self.work = settings, work

    @cached_property
    def measurement(self) -> Measurement:
        """Samples and regenerations of the shipped model."""
        job = demo_job(self.settings)
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


if __name__ == "__main__":
    main()
