"""What a step of each objective costs, against a plain fine-tuning step of as many pairs.

    python benchmarks/step_cost.py --rounds 8

Everything runs in one process, in turn, so that the ratio holds when the machine's speed drifts:
each round times every objective once, next to a plain step (forward, backward, AdamW on the same
model). Prints a Markdown table: median seconds, median of the ratios round by round, rows run.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import torch

from dataunlearn.objectives import OBJECTIVES, SISS, NaiveDeletion, WithoutPrompt
from dataunlearn.recipes.demo import demo
from dataunlearn.runtime.machine import machine
from dataunlearn.training.optimizer import make_optimizer
from dataunlearn.training.trainer import Trainer
from dataunlearn.unlearning.job import Job, prepare
from dataunlearn.unlearning.preparing import prepared


def plain_step(job: Job) -> Callable[[int], None]:
    """An ordinary denoising step without any of the library's engine."""
    denoiser, process = job.model.denoiser, job.model.process
    params = list(denoiser.parameters())
    optimizer = make_optimizer(params, job.training)
    sampler = job.phases()[0].parts[0].sampler

    def step(number: int) -> None:
        pair = sampler(number)
        noisy = process.add_noise(pair.keep, pair.noise, pair.t)
        target = process.target(noisy, pair.keep, pair.t)
        loss = (denoiser(noisy, pair.t, None) - target).square().flatten(1).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, job.training.clip_norm)
        optimizer.step()

    return step


def make_trainers() -> dict[str, Trainer]:
    """One for each objective as published, and for SISS and settling towards predictions.

    WithoutPrompt is left out: the model takes no prompts.
    """
    configs = {
        name: dataclasses.replace(demo(), objective=objective(), keep_towards="data")
        for name, objective in OBJECTIVES.items()
        if objective is not WithoutPrompt
    }
    configs["SISS, predictions"] = dataclasses.replace(demo(), objective=SISS())
    configs["settling, predictions"] = dataclasses.replace(
        demo(), objective=NaiveDeletion(), keep_towards="predictions"
    )
    trainers = {}
    for name, config in configs.items():
        job = prepared(prepare(config), shown=False)
        trainers[name] = Trainer(job.model, job.phases(), job.training, shown=False)
    return trainers


def main() -> None:
    """Time all objectives in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds
    trainers = make_trainers()
    plain = plain_step(prepare(demo()))
    seconds: dict[str, list[float]] = {name: [] for name in ["plain", *trainers]}
    records: dict[str, list[dict[str, float]]] = {name: [] for name in trainers}
    for number in range(rounds + 1):
        started = time.perf_counter()
        plain(number)
        found = {"plain": time.perf_counter() - started}
        for name, trainer in trainers.items():
            started = time.perf_counter()
            records[name].append(trainer.step(number))
            found[name] = time.perf_counter() - started
        if number > 0:  # the first round pays for set-up
            for name, value in found.items():
                seconds[name].append(value)
    print(f"{machine(torch.device('cpu'))}, {rounds} rounds, {demo().batch_pairs} pairs a step\n")
    print(table(seconds, records))


def table(seconds: dict[str, list[float]], records: dict[str, list[dict[str, float]]]) -> str:
    """The Markdown table."""
    pairs = demo().batch_pairs
    lines = [
        "| | s a step | against a plain step | rows forward | rows backward |",
        "|---|---|---|---|---|",
        f"| plain | {statistics.median(seconds['plain']):.3f} | 1 | {pairs} | {pairs} |",
    ]
    for name, steps in records.items():
        rounds = zip(seconds[name], seconds["plain"], strict=True)
        ratio = statistics.median(mine / plain for mine, plain in rounds)
        forward = statistics.mean(record["forward_rows"] for record in steps)
        backward = statistics.mean(record["backward_rows"] for record in steps)
        middle = statistics.median(seconds[name])
        lines.append(f"| {name} | {middle:.3f} | {ratio:.2f} | {forward:.0f} | {backward:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
