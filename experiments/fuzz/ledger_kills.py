"""Kill ``request apply`` at random moments, look at the ledger, and let the same command go on.

From the root of the repository:

    python experiments/fuzz/ledger_kills.py --kills 20 --seed 0 --out runs/ledger_kills

Each try begins with a project in which a first request was answered and a second one waits, so that
both are verified and both versions are signed. After the kill the ledger must be one of the states
that it may be in; after the same command went on it must be as an undisturbed one left it, with the
same weights and every signature good. The tiny model learnt nothing, so that its requests are taken
as known.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from kills import FINISHED, child, differing, ending
from sandbox import Sandbox, build

from dataunlearn.requests.ledger import Ledger
from dataunlearn.requests.records import VERSIONS, VersionState
from dataunlearn.requests.verifying import Verifier
from dataunlearn.runtime.files import left_behind
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.signing import check_folder

# Differ between projects by design, and hold times.
NOT_COMPARED = ("ledger.sqlite", "signing_key.pem", "signing_key.pub.pem", "signature.json")
UNLEARNING = {
    "steps": 12,
    "batch_pairs": 4,
    "checkpoint_every_steps": 2,
    "evaluation": {
        "num_samples": 8,
        "sampling_steps": 2,
        "regeneration_copies": 4,
        "regeneration_steps": 2,
    },
}


def add(sandbox: Sandbox, project: Path, picture: Path) -> list[str]:
    """The command that puts a request about one picture into the ledger."""
    return [
        *("request", "add", "--project", str(project), "--device", "cpu"),
        *("--images", str(picture), "--reference", f"about {picture.name}"),
        *("--model", str(sandbox.pixel_model), "--keep", str(sandbox.keep)),
    ]


def apply(project: Path) -> list[str]:
    """The command that is killed."""
    how = ("--unlearning", json.dumps(UNLEARNING), "--duplicates", "take", "--accept")
    return ["request", "apply", "--project", str(project), "--device", "cpu", *how]


def run(arguments: list[str], log: Path) -> None:
    """Run a command to its end."""
    process = child(arguments, log)
    process.join()
    if process.exitcode not in FINISHED:
        raise SystemExit(f"{arguments[:2]} ended with {process.exitcode}: see {log}")


def begun(sandbox: Sandbox, folder: Path) -> Path:
    """A project with one request that was answered, and one that waits."""
    project, log = folder / "project", folder / "making.log"
    shutil.rmtree(project, ignore_errors=True)
    first, second = sorted(sandbox.forget.iterdir())[:2]
    run(add(sandbox, project, first), log)
    run(apply(project), log)
    run(add(sandbox, project, second), log)
    return project


def wrong_state(project: Path) -> str:
    """What is wrong with a ledger as a kill left it; an empty text if nothing is."""
    with Ledger(project) as ledger:
        ledger.events  # noqa: B018  read to be checked
        head, numbers = ledger.head, [request.id for request in ledger.open]
        if (head.id, numbers) not in ((1, [2]), (2, [])):
            return f"version {head.id} is the head and requests {numbers} are open"
        if any(version.state is VersionState.GIVEN_UP for version in ledger.versions):
            return "a version was given up"
        known = {each.request for each in ledger.verifications(version=head.id)}
        if known != set(ledger.answered):
            return f"version {head.id} has verifications of requests {sorted(known)}"
        chain = [version.folder for version in ledger.chain[1:]]
    broken = [each for each in chain if not check_folder(project / VERSIONS / each).whole]
    return f"signatures of {broken} are not good" if broken else ""


def wrong_after(project: Path, log: Path, moment: float, whole: dict[str, str]) -> str:
    """Kill the command after ``moment`` seconds, let it go on, and say what is wrong."""
    process = child(apply(project), log)
    process.join(moment)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    found = wrong_state(project)
    if found:
        return f"after the kill {found}"
    again = child(apply(project), log)
    again.join()
    if again.exitcode not in FINISHED:
        return f"going on ended with {again.exitcode}"
    found = wrong_state(project)
    with Ledger(project) as ledger:
        if found or ledger.head.id != 2:
            return f"after going on {found or 'the second request is open'}"
    left = [path.name for path in project.rglob("*") if left_behind(path) is not None]
    if left:
        return f"left behind: {left[:3]}"
    return differing(compared(project), whole)


def compared(project: Path) -> dict[str, str]:
    """Hashes of a project's files that no two projects should have different."""
    return {
        name: digest
        for name, digest in ending(project).items()
        if Path(name).name not in NOT_COMPARED
    }


def main() -> None:
    """Kill, and print what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/ledger_kills"))
    chosen = parser.parse_args()
    out: Path = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    Verifier.known_by = lambda *_, **__: "so"  # type: ignore[method-assign]
    project = begun(build(out / "given"), out)
    template = out / "template"
    shutil.rmtree(template, ignore_errors=True)
    shutil.copytree(project, template)
    start = time.monotonic()
    run(apply(project), out / "whole.log")
    seconds, whole = time.monotonic() - start, compared(project)
    draw = random.Random(f"{chosen.seed} request apply")
    found: list[dict[str, Any]] = []
    with progress_bar("request apply", chosen.kills) as advance:
        for _ in range(chosen.kills):
            shutil.rmtree(project)
            shutil.copytree(template, project)
            moment = draw.uniform(0.02, 1) * seconds
            wrong = wrong_after(project, out / "killed.log", moment, whole)
            found.append({"after_seconds": round(moment, 2), "wrong": wrong})
            advance()
            facts = {"seconds": round(seconds, 1), "files": len(whole), "kills": found}
            (out / "kills.json").write_text(json.dumps(facts, indent=1))
    wrong_ones = sorted({kill["wrong"] for kill in found if kill["wrong"]})
    bad = sum(bool(kill["wrong"]) for kill in found)
    print(f"undisturbed {seconds:.0f} s; {len(found)} kills, {bad} wrong")
    print("".join(f"  {each}\n" for each in wrong_ones), end="")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
