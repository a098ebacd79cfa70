"""Settings of runs that take a moment: two steps, two samples, two tries."""

from __future__ import annotations

from typing import Any

from dataunlearn.unlearning.config import Evaluation
from dataunlearn.unlearning.method import StopRule

QUICK: dict[str, Any] = {
    "steps": 2,
    "batch_pairs": 2,
    "stop": StopRule(every_steps=0),
    "evaluation": Evaluation(
        num_samples=2,
        sampling_steps=2,
        regeneration_copies=2,
        regeneration_steps=2,
        threshold=1.0,
        regeneration_timesteps=(500,),
    ),
    "force": True,
    "shown": False,
}
