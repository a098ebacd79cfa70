"""Command lines and config files with odd settings."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sandbox import Sandbox
from spoil import ODD_NUMBERS, ODD_TEXTS, as_json, deep, spoil_json, spoil_text

from dataunlearn.cli import main as cli

# What an honest large number makes long belongs to whoever gives it.
SMALL = (*(0, -1, 1, 2, -(2**63), 0.5, 1e-30), float("nan"), float("inf"), True, False, None)
UNTOUCHED = ("help", "config", "print_config", "out", "tracker", "device", "dry_run", "recipe")
UNLEARNING: dict[str, Any] = {
    "objective": {"class_path": "SISS", "init_args": {"lam": 0.5}},
    "combination": {"class_path": "NormFix", "init_args": {"ratio": 0.1}},
    "steps": 20,
    "learning_rate": 1e-5,
    "batch_pairs": 4,
    "betas": [0.9, 0.95],
    "ema": {"max_decay": 0.99},
    "stop": {"every_steps": 5, "then": "settle", "copies": 8},
    "evaluation": {"num_samples": 8, "regeneration_timesteps": [250, 500]},
}


def command_line(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """A verb with one or two settings that are odd."""
    verb = draw.choice(("unlearn",) * 4 + tuple(VERBS))
    arguments = VERBS[verb](sandbox, folder / "out")
    numbers = ODD_NUMBERS if verb in ("unlearn", "train") else SMALL
    for _ in range(draw.choice((1, 1, 2))):
        values = numbers if draw.random() < 0.6 else ODD_TEXTS
        name, value = draw.choice(options_of(verb)), draw.choice(values)
        text = value if isinstance(value, str) else json.dumps(value)
        arguments += [f"--{name}={text}"] if draw.random() < 0.9 else [f"--{name}", text]
    if draw.random() < 0.05:
        arguments.insert(draw.randrange(len(arguments)), draw.choice(ODD_TEXTS))
    return arguments


def config_file(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """A config file of ``unlearn`` or ``bench`` with an odd entry or odd text."""
    own = sandbox.inputs
    of_bench = draw.random() < 0.4
    settings: dict[str, Any] = {**own, **UNLEARNING}
    if of_bench:
        methods = {"a": {"objective": "SISS"}, "b": UNLEARNING}
        settings = {"base": {**own, "steps": 2}, "methods": methods, "seeds": [0, 1]}
        settings |= {"metrics": "copies,regeneration", "evaluate": {"num_samples": 8}}
    file = folder / "settings.yaml"
    file.write_bytes(_yaml(settings, draw))
    verb = "bench" if of_bench else "unlearn"
    return [verb, "--config", str(file), "--out", str(folder / "out"), "--dry_run=true"]


def _yaml(settings: dict[str, Any], draw: random.Random) -> bytes:
    way = draw.randrange(8)
    if way == 0:
        return spoil_text(json.dumps(settings, indent=1), draw)
    if way == 1:  # a few lines that stand for very many
        count = draw.choice((5, 12, 30))
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, count)]
        return "\n".join(lines).encode()
    if way == 2:
        return f"steps: &a [*a]\nobjective: {draw.choice(ODD_TEXTS[:30])}".encode(
            "utf-8", "replace"
        )
    if way == 3:
        return as_json({**settings, draw.choice(list(settings)): deep(draw)})
    for _ in range(draw.choice((1, 1, 3))):
        with suppress(RecursionError):  # an entry as deep as that is odd enough
            settings = spoil_json(settings, draw)
        if not isinstance(settings, dict):
            break
    return as_json(settings)


@cache
def options_of(verb: str) -> tuple[str, ...]:
    """The settings that a verb takes, but for those that are places."""
    parser = cli.build_parser(verb)
    actions = parser._subcommands_action.choices[verb]._actions
    names = (name for action in actions for name in action.option_strings)
    return tuple(sorted(name[2:] for name in names if _may_be_odd(name)))


def _may_be_odd(name: str) -> bool:
    return name.startswith("--") and not any(part in UNTOUCHED for part in name[2:].split("."))


def _unlearn(sandbox: Sandbox, out: Path) -> list[str]:
    return [*sandbox.unlearn(out), "--dry_run=true"]


def _sample(sandbox: Sandbox, out: Path) -> list[str]:
    size = ("--num_samples", "2", "--num_steps", "1", "--device", "cpu")
    return ["sample", "--model", str(sandbox.pixel_model), "--out", str(out / "grid.png"), *size]


def _evaluate(sandbox: Sandbox, out: Path) -> list[str]:
    size = ("--num_samples", "4", "--sampling_steps", "1", "--device", "cpu")
    measures = ("--metrics", "copies,membership,never_seen", "--membership.num_draws", "2")
    return [*_measured("evaluate", sandbox, out), "--forget", str(sandbox.forget), *size, *measures]


def _audit(sandbox: Sandbox, out: Path) -> list[str]:
    size = ("--num_samples", "4", "--sampling_steps", "1", "--tries", "1", "--device", "cpu")
    return [*_measured("audit", sandbox, out), "--images", str(sandbox.forget), *size]


def _attack(sandbox: Sandbox, out: Path) -> list[str]:
    size = ("--steps", "1", "--every_steps", "1", "--tries", "2", "--seeds", "[0]")
    more = ("--regeneration_steps", "1", "--threshold", "5", "--device", "cpu")
    return [*_measured("attack", sandbox, out), "--forget", str(sandbox.forget), *size, *more]


def _measured(verb: str, sandbox: Sandbox, out: Path) -> list[str]:
    return [
        verb,
        "--model",
        str(sandbox.pixel_model),
        "--keep",
        str(sandbox.keep),
        "--out",
        str(out),
    ]


def _train(sandbox: Sandbox, out: Path) -> list[str]:
    size = ("--training.steps", "2", "--training.batch_pairs", "2", "--training.warmup_steps", "1")
    return sandbox.train(out, *size, "--planted_copies", "2")


def _verify(sandbox: Sandbox, out: Path) -> list[str]:
    size = ("--effort", "quick", "--regeneration_steps", "1", "--device", "cpu")
    return [*_measured("verify", sandbox, out), "--forget", str(sandbox.forget), *size]


VERBS = {
    "unlearn": _unlearn,
    "sample": _sample,
    "evaluate": _evaluate,
    "audit": _audit,
    "attack": _attack,
    "verify": _verify,
    "train": _train,
}
