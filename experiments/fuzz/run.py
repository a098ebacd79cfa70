"""Give the command inputs that nobody should give, and count how it answers.

From the root of the repository:

    python experiments/fuzz/run.py --count 10000 --seed 0 --out runs/fuzz

Each input is a whole command line, with its files; input number n of a seed is always the same. A
command must accept it or refuse it with a reason: no traceback, no answer after more than 30
seconds, no more than 2 GiB above what was in use, nothing written where it refuses, no number that
is none. ``--only N`` repeats one and shows what was said. A call goes on where an earlier one
ended.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import file_inputs
import ledger_inputs
import settings_inputs
from outcome import Outcome, run_case
from sandbox import Sandbox, build

from dataunlearn.runtime.progress import progress_bar

Make = Callable[[Sandbox, Path, random.Random], list[str]]
KINDS: dict[str, tuple[Make, int]] = {  # and how many of a hundred
    "command lines": (settings_inputs.command_line, 20),
    "config files": (settings_inputs.config_file, 12),
    "pictures": (file_inputs.pictures, 12),
    "arrays": (file_inputs.arrays, 10),
    "captions": (file_inputs.captions, 7),
    "prompt files": (file_inputs.prompts, 7),
    "model folders": (file_inputs.models, 14),
    "states of runs": (file_inputs.states, 3),
    "finished runs": (file_inputs.runs, 5),
    "ledgers": (ledger_inputs.ledgers, 6),
    "signed folders": (ledger_inputs.signed, 2),
    "differences": (ledger_inputs.differences, 2),
}
TURNS = [kind for kind, (_, count) in KINDS.items() for _ in range(count)]
random.Random(0).shuffle(TURNS)
LOG_FILE = "cases.jsonl"


def case(number: int, seed: int, sandbox: Sandbox, work: Path) -> tuple[str, list[str], Outcome]:
    """Make input ``number`` of a seed and give it to the command."""
    kind = TURNS[number % len(TURNS)]
    folder = work / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    arguments = KINDS[kind][0](sandbox, folder, random.Random(f"{seed} {number}"))
    return kind, arguments, run_case(arguments, folder, sandbox.root)


def prepared(out: Path) -> Sandbox:
    """What inputs are made from; ``~`` is an empty folder beside it."""
    home = out / "home"
    home.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(home)
    return build(out / "given")


def records(out: Path) -> list[dict[str, Any]]:
    """What earlier calls found."""
    log = out / LOG_FILE
    return [json.loads(line) for line in log.open()] if log.is_file() else []


def go_on(out: Path, seed: int, count: int) -> None:
    """Run the inputs that are missing, and note each."""
    sandbox = prepared(out)
    first = len(records(out))
    with (out / LOG_FILE).open("a") as log, progress_bar("inputs", count) as advance:
        for number in range(count):
            if number >= first:
                kind, arguments, found = case(number, seed, sandbox, out / "work")
                said = found.words[-2000 if found.fault else -300 :]
                row = {"number": number, "kind": kind, "code": found.code, "fault": found.fault}
                row |= {"seconds": round(found.seconds, 2), "arguments": arguments, "words": said}
                log.write(json.dumps(row) + "\n")
                log.flush()
            advance()


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Markdown: of each kind how many were accepted, refused and answered wrongly."""
    lines = [
        "| inputs | number | accepted | refused | faults | longest |",
        "|---|---|---|---|---|---|",
    ]
    found = list(rows)
    for kind in [*KINDS, "all"]:
        own = [row for row in found if kind in (row["kind"], "all")]
        if not own:
            continue
        faults = sum(row["fault"] is not None for row in own)
        refused = sum(row["code"] in (1, 2) and row["fault"] is None for row in own)
        longest = max(row["seconds"] for row in own)
        cells = (len(own), len(own) - refused - faults, refused, faults, f"{longest:.1f} s")
        lines.append(f"| {kind} | {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run, and print the counts and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--only", type=int, help="repeat this one input and show what was said")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    out = chosen.out.resolve()
    if chosen.only is not None:
        kind, arguments, found = case(chosen.only, chosen.seed, prepared(out), out / "work")
        print(
            kind,
            arguments,
            found.words,
            found.code,
            found.fault,
            f"{found.seconds:.1f} s",
            sep="\n",
        )
        return
    go_on(out, chosen.seed, chosen.count)
    rows = records(out)[: chosen.count]
    print(table(rows))
    faults = Counter((row["fault"] or "")[:120] for row in rows if row["fault"])
    for fault, number in faults.most_common():
        print(f"{number:5d}  {fault}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
