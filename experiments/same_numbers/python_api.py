"""Child of cases.py: the Python interface in memory; prints JSON.

python python_api.py WHAT MODEL FORGET.png KEEP.npz
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDPMPipeline
from PIL import Image

import dataunlearn
from dataunlearn import Above, Evaluation, ForwardProcess, Last, Uniform, Window
from dataunlearn.combine import BoundedDescent, Fixed, NormFix, Superfactor
from dataunlearn.gramian import Gramian
from dataunlearn.models import load_model
from dataunlearn.objectives import OBJECTIVES, Objective, WithoutPrompt
from dataunlearn.rows import Rows
from dataunlearn.unlearning.config import Settings
from dataunlearn.unlearning.job import prepare_with
from dataunlearn.unlearning.preparing import prepared

EVALUATION = Evaluation(
    num_samples=8,
    sampling_steps=4,
    regeneration_copies=4,
    regeneration_steps=4,
    threshold=10.0,
)


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        found.update(f"{name} {array.dtype} {array.shape};".encode() + array.tobytes())
    return found.hexdigest()


def tensors_of(value: Any, path: str = "") -> dict[str, torch.Tensor]:
    """The tensors in nested dataclasses."""
    if isinstance(value, torch.Tensor):
        return {path: value}
    if not is_dataclass(value):
        return {}
    parts = [tensors_of(getattr(value, f.name), f"{path}.{f.name}") for f in fields(value)]
    return {name: tensor for part in parts for name, tensor in part.items()}


def in_memory(model: str, picture: str, archive: str) -> dict[str, Any]:
    """Unlearn and audit with arrays and a pipeline."""
    pipeline = DDPMPipeline.from_pretrained(model)
    forget = np.asarray(Image.open(picture).convert("L"))
    keep = np.load(archive)["x"]
    small = {"tries": 4, "num_steps": 4, "num_samples": 8, "sampling_steps": 4, "loss_images": 16}
    audited = dataunlearn.audit(pipeline, forget, keep=keep, shown=False, **small)
    result = dataunlearn.unlearn(
        pipeline,
        forget=forget,
        keep=keep,
        objective=dataunlearn.SISS(lam=0.5),
        combination=NormFix(ratio=0.3),
        evaluation=EVALUATION,
        steps=3,
        batch_pairs=4,
        device="cpu",
        force=True,
        shown=False,
    )
    return {
        "audited": [image.as_json() for image in audited],
        "weights": digest(dict(result.pipeline.unet.state_dict())),
        "same_pipeline": result.pipeline is pipeline,
        "before": result.before.numbers,
        "after": result.after.numbers,
        "log": result.log,
        "verdict": result.facts["verdict"],
    }


def rows_of(objective: Objective, model: str, picture: str, archive: str) -> Rows:
    """The rows of a run's first step."""
    config = Settings(objective=objective, batch_pairs=6)
    job = prepared(
        prepare_with(load_model(model), config, picture, archive, shown=False), shown=False
    )
    pair = job.sampler(config.noise_levels)(0)
    return job.objective(job.model.process, pair, torch.Generator().manual_seed(3))


def parts(model: str, picture: str, archive: str) -> dict[str, Any]:
    """Rows of every objective, timestep policies, combination rules and the forward process."""
    process = ForwardProcess.from_scheduler(DDPMPipeline.from_pretrained(model).scheduler)
    found: dict[str, Any] = {}
    for policy in (Above(), Last(), Uniform(), Window(lo=100, hi=700)):
        drawn = policy.draw(16, process, torch.Generator().manual_seed(1))
        found[str(policy)] = drawn.tolist()
    for name, kind in OBJECTIVES.items():
        found[f"{name} rule"] = str(kind.default_combination)
        if kind is not WithoutPrompt:  # which is for models that take prompts
            found[name] = digest(tensors_of(rows_of(kind(), model, picture, archive)))
    t = torch.arange(0, 1000, 7)
    found["process"] = digest({"gamma": process.gamma(t), "sigma": process.sigma(t)})
    gramian = Gramian(3.0, -1.7, 2.9)
    rules = (NormFix(ratio=0.4), NormFix(norm=500), BoundedDescent(), Fixed(keep=1.0, forget=-0.2))
    for rule in (*rules, Superfactor(s=0.1, num_train=100, num_forget=3)):
        found[str(rule)] = list(rule(gramian))
    return found


if __name__ == "__main__":
    what = {"in_memory": in_memory, "parts": parts}[sys.argv[1]]
    print("FACTS" + json.dumps(what(*sys.argv[2:])))
