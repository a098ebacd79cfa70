"""What a step of each objective costs, against a plain fine-tuning step of as many pairs.

    python benchmarks/step_cost.py --rounds 20

Everything runs in one process, in turn, so that the ratio holds when the machine's speed drifts:
each round times every kind of step once, next to a plain one (forward, backward, AdamW on the same
model). Rules that look at both gradients' lengths are timed in both modes: exact takes the two
apart in every step, lagged in every tenth. "The published loop" re-states what the SISS paper
describes: one forward pass, a backward pass for each side with the graph kept, both scaled by the
forget gradient's length. Prints a Markdown table: median seconds, ratios round by round, rows run.
A lagged step's seconds are the mean over a cycle of ten.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from dataunlearn.combine import NormFix
from dataunlearn.objectives import OBJECTIVES, SISS, Counterfactual, NaiveDeletion, WithoutPrompt
from dataunlearn.recipes.demo import demo
from dataunlearn.runtime.machine import machine
from dataunlearn.training import lagged
from dataunlearn.training.networks import row_losses
from dataunlearn.training.optimizer import make_optimizer
from dataunlearn.training.trainer import Trainer
from dataunlearn.unlearning.job import Job, prepare
from dataunlearn.unlearning.preparing import prepared

CYCLE = 10
Step = Callable[[int], Mapping[str, Any] | None]


def plain_step(job: Job, times: int = 1) -> Step:
    """An ordinary denoising step without any of the library's engine, on ``times`` the pairs."""
    denoiser, process = job.model.denoiser, job.model.process
    params = list(denoiser.parameters())
    optimizer = make_optimizer(params, job.training)
    sampler = job.phases()[0].parts[0].sampler

    def step(number: int) -> None:
        pairs = [sampler(times * number + part) for part in range(times)]
        clean, noise, t = (
            torch.cat([getattr(pair, name) for pair in pairs]) for name in ("keep", "noise", "t")
        )
        noisy = process.add_noise(clean, noise, t)
        target = process.target(noisy, clean, t)
        loss = (denoiser(noisy, t, None) - target).square().flatten(1).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, job.training.clip_norm)
        optimizer.step()

    return step


def published_step(job: Job) -> Step:
    """SISS as its paper describes a step: both losses of one forward pass, backward one by one."""
    denoiser, params = job.model.denoiser, list(job.model.denoiser.parameters())
    optimizer, phase = make_optimizer(params, job.training), job.phases()[0]
    rule = phase.combination
    assert isinstance(rule, NormFix)
    norm = rule.norm or 5.0

    def step(number: int) -> None:
        rows = phase.rows(job.model.process, number).over_pairs()
        prediction = denoiser(rows.inputs, rows.t, rows.cond)
        optimizer.zero_grad()
        row_losses(prediction, rows.keep).sum().backward(retain_graph=True)
        kept = [param.grad.clone() for param in params if param.grad is not None]
        row_losses(prediction, rows.forget).sum().backward()
        forgotten = [param.grad - keep for param, keep in zip(params, kept, strict=True)]
        length = torch.stack([part.norm() for part in forgotten]).norm()
        for param, keep, forget in zip(params, kept, forgotten, strict=True):
            param.grad = keep - norm / length * forget
        torch.nn.utils.clip_grad_norm_(params, job.training.clip_norm)
        optimizer.step()

    return step


def make_steps() -> dict[str, Step]:
    """A plain step and one of each objective, of SISS, No-IS and Counterfactual in both modes."""
    data = dataclasses.replace(demo(), keep_towards="data", norms_every_steps=1)
    siss = dataclasses.replace(data, objective=SISS())
    exact = {
        name: dataclasses.replace(data, objective=objective())
        for name, objective in OBJECTIVES.items()
        if objective is not WithoutPrompt  # the model takes no prompts
    }
    exact["SISS, predictions"] = dataclasses.replace(siss, keep_towards="predictions")
    exact["Counterfactual, predictions"] = dataclasses.replace(
        data, objective=Counterfactual(), keep_towards="predictions"
    )
    exact["settling, predictions"] = dataclasses.replace(
        data, objective=NaiveDeletion(), keep_towards="predictions"
    )
    configs = dict(exact)
    for name, config in exact.items():
        if config.rule.sees_lengths_alone:
            lagging = dataclasses.replace(config, norms_every_steps=CYCLE)
            configs[f"{name}, lagged"] = lagging
    steps: dict[str, Step] = {
        "plain": plain_step(prepare(demo())),
        "plain, twice the pairs": plain_step(prepare(demo()), times=2),
        "the published loop": published_step(prepare(siss)),
    }
    return steps | {name: trainer_step(configs[name]) for name in sorted(configs)}


def trainer_step(config: Any) -> Step:
    """A step of a run with these settings, past the steps that are exact at first."""
    job = prepared(prepare(config), shown=False)
    trainer = Trainer(job.model, job.phases(), job.training, shown=False)
    if job.phases()[0].norms_every_steps > 1:
        for number in range(lagged.EXACT_AT_FIRST):
            trainer.step(number)
    return trainer.step


def main() -> None:
    """Time all steps in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2 * CYCLE)
    rounds = parser.parse_args().rounds
    steps = make_steps()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    records: dict[str, list[Mapping[str, Any]]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            record = step(lagged.EXACT_AT_FIRST + number)
            if number > 0:  # the first round pays for set-up
                seconds[name].append(time.perf_counter() - started)
                records[name].append(record or {})
    print(f"{machine(torch.device('cpu'))}, {rounds} rounds, {demo().batch_pairs} pairs a step\n")
    print(table(seconds, records))


def table(
    seconds: Mapping[str, Sequence[float]], records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """The Markdown table."""
    lines = [
        "| | s a step | against a plain step | rows forward | backward | of the frozen model |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in seconds.items():
        middle = statistics.mean if name.endswith("lagged") else statistics.median
        ratios = [mine / plain for mine, plain in zip(found, seconds["plain"], strict=True)]
        counts = [
            f"{statistics.mean(record[key] for record in records[name]):.0f}"
            if key in records[name][0]
            else "–"
            for key in ("forward_rows", "backward_rows", "teacher_rows")
        ]
        cells = (name, f"{middle(found):.3f}", f"{middle(ratios):.2f}", *counts)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
