"""Run on disks that are too small, say what happened, and go on once there is room.

From the root of the repository, as root, since it mounts small disks in memory:

    python experiments/fuzz/full_disks.py --out runs/disks

For each verb that writes, the run is begun on some disks, from one that holds next to nothing to
one that is just too small for all of it. It must end with a message that names what did not fit,
and with no half of a file under a final name; the same command, given room, must end as a run that
always had it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from kills import FINISHED, VERBS, child, differing, ending
from sandbox import Sandbox, build

from dataunlearn.runtime.progress import progress_bar

PAGE = 4096
ROOM = 64 * 2**20
NO_SPACE = "No space left"


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes in memory."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def give_room(place: Path) -> None:
    """Let the disk be as large as any run needs."""
    subprocess.run(["mount", "-o", f"remount,size={ROOM}", str(place)], check=True)


def on_disk(arguments: list[str], place: Path, size: int, whole: dict[str, str]) -> str:
    """What was wrong with a run on a disk of this size; an empty text if nothing."""
    log = place.with_suffix(".log")
    log.unlink(missing_ok=True)
    with small_disk(place, size):
        process = child(arguments, log)
        process.join()
        words = log.read_text(errors="replace")
        if process.exitcode == 0:
            return "ended although the disk is too small"
        if process.exitcode != 1 or NO_SPACE not in words or "Traceback" in words:
            return f"exit code {process.exitcode}: {words.strip().splitlines()[-1][:150]}"
        give_room(place)
        again = child(arguments, log)
        again.join()
        if again.exitcode not in FINISHED:
            said = log.read_text(errors="replace").strip().splitlines()
            return f"going on ended with {again.exitcode}: {said[-1][:150]}"
        return differing(ending(place / "out"), whole)


def needed(place: Path) -> int:
    """Bytes of disk that are in use, in whole pages."""
    status = os.statvfs(place)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def of_verb(verb: str, sandbox: Sandbox, count: int) -> dict[str, Any]:
    """A run with room, and then on so many disks that are too small for it."""
    place = sandbox.root.parent / "disk"
    arguments, log = VERBS[verb](sandbox, place / "out"), place.with_suffix(".log")
    with small_disk(place, ROOM):
        process = child(arguments, log)
        process.join()
        if process.exitcode not in FINISHED:
            raise SystemExit(f"{verb} ended with {process.exitcode}: see {log}")
        whole, size = ending(place / "out"), needed(place)
    found = []
    with progress_bar(verb, count) as advance:
        for part in range(1, count + 1):
            small = max(PAGE, int(size * part / (count + 1)) // PAGE * PAGE)
            found.append({"bytes": small, "wrong": on_disk(arguments, place, small, whole)})
            advance()
    return {"verb": verb, "needs_bytes": size, "disks": found}


def main() -> None:
    """Fill disks, and print a table of what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbs", default="unlearn,unlearn-prompts,evaluate,audit,train,bench")
    parser.add_argument("--disks", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/disks"))
    chosen = parser.parse_args()
    out = chosen.out.resolve()
    shutil.rmtree(out / "disk", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    sandbox, rows = build(out / "given"), []
    for verb in chosen.verbs.split(","):
        rows.append(of_verb(verb, sandbox, chosen.disks))
        (out / "disks.json").write_text(json.dumps(rows, indent=1))
    print("| verb | needs | disks | told and went on to the same end | not |")
    print("|---|---|---|---|---|")
    for row in rows:
        wrong = [disk for disk in row["disks"] if disk["wrong"]]
        cells = (row["verb"], f"{row['needs_bytes'] / 1024:.0f} KiB", len(row["disks"]))
        print(
            f"| {' | '.join(map(str, cells))} | {len(row['disks']) - len(wrong)} | {len(wrong)} |"
        )
        for disk in wrong:
            print(f"  {disk['bytes']} bytes: {disk['wrong']}")
    sys.exit(any(disk["wrong"] for row in rows for disk in row["disks"]))


if __name__ == "__main__":
    main()
