"""Kill runs at random moments, let the same command go on, and compare with one never killed.

From the root of the repository:

    python experiments/fuzz/kills.py --kills 20 --seed 0 --out runs/kills

Every verb that works for long is killed (SIGKILL, which no program can answer) after a random part
of the time that it takes undisturbed; the same command is then given again. What it ends with must
equal, bit for bit, what the undisturbed run ended with, and nothing half written may be left. A
process that has all libraries loaded forks for each command, so that moments fall into work and not
into imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from sandbox import CAPTIONS, PICTURE_SIDE, Sandbox, build

from dataunlearn.cli import main as cli
from dataunlearn.prompts.published_layout import write_labels, write_prompts
from dataunlearn.runtime.files import left_behind
from dataunlearn.runtime.own_files import FINISHED_FILE
from dataunlearn.runtime.progress import progress_bar

FORK = multiprocessing.get_context("fork")
FINISHED = (0, 3, 4, 5)
# What tells when and how fast a run was, which no two runs share.
PASSING = ("time", "machine", "versions", "costs")
PASSING_PARTS = ("seconds", "memory")
Command = Callable[[Sandbox, Path], list[str]]


def unlearn(sandbox: Sandbox, out: Path) -> list[str]:
    """Thirty steps with a checkpoint after every other one."""
    more = ("--steps", "30", "--checkpoint_every_steps", "2", "--evaluation.num_samples", "8")
    return [*sandbox.unlearn(out), *more]


def unlearn_prompts(sandbox: Sandbox, out: Path) -> list[str]:
    """Two prompts of the tiny text-to-image model, whose samples are labelled already."""
    labelled = labelled_prompts(sandbox)
    steps = {"steps": 6, "batch_pairs": 2, "checkpoint_every_steps": 1}
    size = ("--images_per_prompt", "8", "--sampling_steps", "2", "--image_size", str(PICTURE_SIDE))
    more = ("--optimise", "never", "--min_keep", "1", "--fresh_samples", "4")
    return [
        *("unlearn-prompts", "--model", str(sandbox.text_model), "--prompts", str(labelled)),
        *("--out", str(out), "--device", "cpu", "--unlearning", json.dumps(steps), *size, *more),
    ]


def labelled_prompts(sandbox: Sandbox) -> Path:
    """Four samples of each of two prompts, half of them called memorised.

    A model that learnt nothing draws none that would be found so.
    """
    root = sandbox.root.parent / "prompts"
    names = [path.name for path in sorted(sandbox.captioned.glob("*.png"))]
    for folder in ("000", "001"):
        shutil.copytree(
            sandbox.captioned,
            root / folder / "images",
            ignore=shutil.ignore_patterns("*.jsonl"),
            dirs_exist_ok=True,
        )
        write_labels(root / folder, {name: int(at < 2) for at, name in enumerate(names)})
    write_prompts(root, {"000": CAPTIONS[0], "001": CAPTIONS[1]}, {})
    return root


def evaluate(sandbox: Sandbox, out: Path) -> list[str]:
    """Copies and membership of the pixel model."""
    return [
        *("evaluate", "--model", str(sandbox.pixel_model), "--forget", str(sandbox.forget)),
        *("--keep", str(sandbox.keep), "--out", str(out), "--metrics", "copies,membership"),
        *("--num_samples", "64", "--sampling_steps", "20", "--device", "cpu"),
    ]


def audit(sandbox: Sandbox, out: Path) -> list[str]:
    """The pictures to forget, calibrated on those to keep."""
    return [
        *("audit", "--model", str(sandbox.pixel_model), "--images", str(sandbox.forget)),
        *("--keep", str(sandbox.keep), "--out", str(out), "--tries", "2", "--num_steps", "5"),
        *("--num_samples", "32", "--sampling_steps", "10", "--device", "cpu"),
    ]


def train(sandbox: Sandbox, out: Path) -> list[str]:
    """Thirty steps of a base model, with a checkpoint after every other one."""
    size = ("--training.steps", "30", "--training.batch_pairs", "4", "--sample_every_steps", "10")
    size += ("--training.warmup_steps", "2", "--training.decay_after", "0")
    return sandbox.train(out, *size, "--training.checkpoint_every_steps", "2")


def bench(sandbox: Sandbox, out: Path) -> list[str]:
    """Two methods, each in a process of its own."""
    size = {"steps": 12, "batch_pairs": 2, "checkpoint_every_steps": 2}
    base = {**sandbox.inputs, **size, "device": "cpu"}
    settings = {
        "base": {**base, "stop": {"every_steps": 0}},
        "methods": {"naive": {"objective": "NaiveDeletion"}, "NegGrad": {"objective": "NegGrad"}},
        "seeds": [0],
        "metrics": "copies",
        "evaluate": {"num_samples": 8, "sampling_steps": 2},
        "forgetting": "copy_frequency",
        "quality": "copy_frequency",
    }
    file = sandbox.root.parent / "bench.yaml"
    file.write_text(json.dumps(settings))
    return ["bench", str(file), "--out", str(out)]


VERBS: dict[str, Command] = {
    "unlearn": unlearn,
    "unlearn-prompts": unlearn_prompts,
    "evaluate": evaluate,
    "audit": audit,
    "train": train,
    "bench": bench,
}


def child(arguments: Sequence[str], log: Path) -> Any:
    """A process that runs a command, with its words in a file."""

    def work() -> None:
        os.setsid()
        words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(words, 1)
        os.dup2(words, 2)
        sys.exit(cli.run(list(arguments)))

    process = FORK.Process(target=work)
    process.start()
    return process


def ending(out: Path) -> dict[str, str]:
    """A hash of every file of a run, without what tells of its time and place."""
    found = {}
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        name = file.relative_to(out).as_posix()
        if file.suffix in (".html", ".png", ".csv", ".md", ".yaml") or file.name in NOT_COMPARED:
            continue
        content = file.read_bytes()
        if file.suffix in (".json", ".jsonl"):
            lines = content.decode().splitlines() if file.suffix == ".jsonl" else [content.decode()]
            values = [json.loads(line) for line in lines]
            for each in values:
                each.pop("sha256", None)  # of the file itself, with its seconds
            content = json.dumps([lasting(each) for each in values]).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


NOT_COMPARED = ("finished", "settings.json", ".lock", ".holder.json", "costs.json")


def lasting(value: Any) -> Any:
    """A JSON value without what tells when and how fast it was written."""
    if isinstance(value, dict):
        kept = (key for key in value if key not in PASSING)
        kept = (key for key in kept if not any(part in key for part in PASSING_PARTS))
        return {key: lasting(value[key]) for key in kept}
    return [lasting(inner) for inner in value] if isinstance(value, list) else value


def differing(found: dict[str, str], whole: dict[str, str]) -> str:
    """Which files are not as an undisturbed run left them; an empty text if none."""
    changed = sorted(name for name in {*found, *whole} if found.get(name) != whole.get(name))
    return f"differs: {', '.join(changed[:4])}" if changed else ""


def differences(
    verb: str, sandbox: Sandbox, out: Path, whole: dict[str, str], moment: float
) -> str:
    """Kill a command after ``moment`` seconds, finish it, and say what is not as it should be."""
    arguments, log = VERBS[verb](sandbox, out), out.with_suffix(".log")
    shutil.rmtree(out, ignore_errors=True)
    process = child(arguments, log)
    process.join(moment)
    was_running = process.is_alive()
    if was_running:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    is_whole = (out / FINISHED_FILE).is_file()  # it was killed after its last word
    if not is_whole and (was_running or process.exitcode not in FINISHED):
        again = child(arguments, log)
        again.join()
        if again.exitcode not in FINISHED:
            return f"going on ended with {again.exitcode}"
    left = [path.name for path in out.rglob("*") if left_behind(path) is not None]
    if left:
        return f"left behind: {left[:3]}"
    return differing(ending(out), whole)


def of_verb(verb: str, sandbox: Sandbox, kills: int, seed: int) -> dict[str, Any]:
    """Run a verb undisturbed, then kill it that often."""
    out = sandbox.root.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    process = child(VERBS[verb](sandbox, out), out.with_suffix(".log"))
    process.join()
    seconds = time.monotonic() - start
    if process.exitcode not in FINISHED:
        raise SystemExit(f"{verb} ended with {process.exitcode}: see {out.with_suffix('.log')}")
    whole = ending(out)
    draw, found = random.Random(f"{seed} {verb}"), []
    with progress_bar(verb, kills) as advance:
        for _ in range(kills):
            moment = draw.uniform(0.02, 1) * seconds
            wrong = differences(verb, sandbox, out, whole, moment)
            found.append({"after_seconds": round(moment, 2), "wrong": wrong})
            advance()
    return {"verb": verb, "seconds": round(seconds, 1), "files": len(whole), "kills": found}


def main() -> None:
    """Kill, and print a table of what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", default=",".join(VERBS))
    parser.add_argument("--out", type=Path, default=Path("runs/kills"))
    chosen = parser.parse_args()
    out = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    sandbox, rows = build(out / "given"), []
    for verb in chosen.verbs.split(","):
        rows.append(of_verb(verb, sandbox, chosen.kills, chosen.seed))
        (out / "kills.json").write_text(json.dumps(rows, indent=1))
    print("| verb | undisturbed | kills | ended as undisturbed | not |")
    print("|---|---|---|---|---|")
    for row in rows:
        wrong = [kill["wrong"] for kill in row["kills"] if kill["wrong"]]
        cells = (row["verb"], f"{row['seconds']:.0f} s", len(row["kills"]))
        print(
            f"| {' | '.join(map(str, cells))} | {len(row['kills']) - len(wrong)} | {len(wrong)} |"
        )
        print("".join(f"  {each}\n" for each in sorted(set(wrong))), end="")
    sys.exit(any(kill["wrong"] for row in rows for kill in row["kills"]))


if __name__ == "__main__":
    main()
