"""What stands in the report of unlearned prompts, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from dataunlearn.metrics.embedders import Embedder
from dataunlearn.models import DiffusionModel
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.drift import compare_unnamed
from dataunlearn.prompts.measuring import PromptMeasurement, PromptRun
from dataunlearn.prompts.samples import LabelledPrompt
from dataunlearn.runtime.machine import machine, peak_memory, versions
from dataunlearn.runtime.settings import describe
from dataunlearn.training.trainer import Trainer
from dataunlearn.unlearning.job import Job


def training_facts(job: Job, trainer: Trainer) -> dict[str, Any]:
    """What was trained how, and what it took."""
    return {
        "steps": len(trainer.log.records),
        "settled_after": trainer.settled_after,
        "settings": job.settings | {"training": describe(job.training)},
        "peak_memory_bytes": peak_memory(job.model.device),
    }


def results_of(
    before: PromptMeasurement,
    after: PromptMeasurement,
    another_seed: Tensor,
    embedder: Embedder | None,
) -> dict[str, Any]:
    """All results as JSON values: before, after, and how far other prompts moved."""
    results: dict[str, Any] = {"before": before.as_json(), "after": after.as_json()}
    if len(before.unnamed):
        found = compare_unnamed(before.unnamed, after.unnamed, another_seed, embedder)
        results |= {result.name: result.as_json() for result in found}
    return results


def collect(
    config: PromptUnlearning,
    prompts: Sequence[LabelledPrompt],
    runs: Sequence[PromptRun],
    model: DiffusionModel,
) -> dict[str, Any]:
    """Everything that stands in the report, as JSON values."""
    return {
        "settings": describe(config),
        "versions": versions(),
        "machine": machine(model.device),
        "prompts": [
            {
                "folder": prompt.data.name,
                "name": prompt.name,
                "prompt": prompt.data.prompt,
                "share_memorised": prompt.labelling.share,
                "verdict": prompt.labelling.verdict,
                "decided_by": prompt.labelling.decided_by,
            }
            for prompt in prompts
        ],
        "runs": [run.facts for run in runs],
        "mitigated": mitigated(runs),
    }


def mitigated(runs: Sequence[PromptRun]) -> dict[str, Any]:
    """Over all runs: how many prompts give no memorised sample any more."""
    clean = [
        bool(share == 0)
        for run in runs
        for share in run.after.results["original_memorised_fraction"].per_item.tolist()  # type: ignore[union-attr]
    ]
    return {"prompts": len(clean), "without_memorised_samples": sum(clean)}
