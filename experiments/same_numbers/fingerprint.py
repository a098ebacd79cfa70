"""Fingerprints of what dataunlearn computes, to show that a refactoring changes nothing.

Run from the root of a checkout, with the project's interpreter (of an older checkout, which has no
such script, by this one's path):

    python experiments/same_numbers/fingerprint.py --out before.json [--only NAME,NAME]
    python experiments/same_numbers/fingerprint.py --compare before.json after.json [--save FILE]
    python experiments/same_numbers/fingerprint.py --list

Each case's facts (hashes and numbers) are saved as soon as it is done; a second call goes on with
the cases that are missing or have failed. Cases that are named ``*_unfinished`` run only where
``--only`` names them, with ``--folder DIR``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cases import CASES, ON_REQUEST
from children import Context, child_environment, run_child

MOST_DIFFERENCES_SHOWN = 40
PROBE = "import dataunlearn, torch; print(dataunlearn.__file__, torch.get_num_threads())"


def main() -> int:
    """Parse the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the facts.")
    parser.add_argument("--only", default="", help="Names of cases, with commas between them.")
    parser.add_argument("--work", type=Path, help="Folder for the runs; a fresh one by default.")
    parser.add_argument("--folder", type=Path, help="Run folder of the *_unfinished cases.")
    parser.add_argument("--again", action="store_true", help="Run cases that are done as well.")
    parser.add_argument("--list", action="store_true", help="Print the names of the cases.")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE", help="Compare two files.")
    parser.add_argument("--save", type=Path, help="JSON file for what --compare finds.")
    options = parser.parse_args()
    if options.list:
        print("\n".join(CASES))
        return 0
    chosen = [name for name in options.only.split(",") if name]
    unknown = [name for name in chosen if name not in CASES]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.compare:
        first, second = (json.loads(file.read_text())["cases"] for file in options.compare)
        found = compare(first, second, chosen or list(CASES))
        if options.save is not None:
            options.save.write_text(json.dumps(found, indent=1) + "\n")
        return int(any(found.values()))
    if options.out is None:
        parser.error("give --out FILE.json, --compare A.json B.json or --list")
    return run_cases(options, chosen or [name for name in CASES if name not in ON_REQUEST])


def run_cases(options: argparse.Namespace, names: list[str]) -> int:
    """Run the cases that are not done yet; 1 if any fails."""
    work = (options.work or Path(tempfile.mkdtemp(prefix="fingerprint_"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    folder = None if options.folder is None else options.folder.resolve()
    content = read(options.out)
    content["about"] = {"root": str(Path.cwd()), "python": sys.version, "package": package()}
    context = Context(work, folder, content["cases"])
    failed = []
    for number, name in enumerate(names, 1):
        if not options.again and "facts" in content["cases"].get(name, {}):
            print(f"[{number}/{len(names)}] {name}: there already", flush=True)
            continue
        started = time.perf_counter()
        try:
            done: dict[str, Any] = {"facts": CASES[name](context)}
        except Exception as error:
            traceback.print_exc()
            done = {"error": f"{type(error).__name__}: {error}"}
            failed.append(name)
        done["seconds"] = round(time.perf_counter() - started, 1)
        content["cases"][name] = done
        save(content, options.out)
        word = "FAILED" if name in failed else "done"
        print(f"[{number}/{len(names)}] {name}: {word} in {done['seconds']} s", flush=True)
    print(f"facts: {options.out}, runs: {work}, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def package() -> str:
    """Where the children import dataunlearn from.

    Raises:
        RuntimeError: If that is not the checkout in the current folder, or there are more threads.
    """
    found = run_child([sys.executable, "-c", PROBE]).stdout.split()
    if Path.cwd() not in Path(found[0]).parents or found[1] != "1":
        raise RuntimeError(
            f"{found[0]} with {found[1]} threads is not this checkout with one: "
            f"PYTHONPATH={child_environment()['PYTHONPATH']}"
        )
    return found[0]


def read(file: Path) -> dict[str, Any]:
    """What an earlier call has saved."""
    if file.is_file():
        content: dict[str, Any] = json.loads(file.read_text())
        return content
    return {"about": {}, "cases": {}}


def save(content: dict[str, Any], file: Path) -> None:
    """Write at once or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    os.replace(part, file)


def compare(
    first: dict[str, Any], second: dict[str, Any], names: list[str]
) -> dict[str, list[str]]:
    """Print each case and what differs; returns the same, by case.

    The ``*_unfinished`` cases are left out where only one file has them.
    """
    found = {}
    for name in names:
        one, other = first.get(name), second.get(name)
        if None in (one, other) and (one is other or name in ON_REQUEST):
            continue
        lines = case_differences(one, other)
        found[name] = lines
        print(f"{name}: {'DIFFERS' if lines else 'equal'}")
        for line in lines[:MOST_DIFFERENCES_SHOWN]:
            print(f"    {line}")
        if len(lines) > MOST_DIFFERENCES_SHOWN:
            print(f"    and {len(lines) - MOST_DIFFERENCES_SHOWN} more")
    differ = sum(map(bool, found.values()))
    print(f"{differ} cases differ" if differ else "all cases are equal")
    return found


def case_differences(one: dict[str, Any] | None, other: dict[str, Any] | None) -> list[str]:
    """What differs between two results of a case; None for a case that was not run."""
    if one is None or other is None:
        return [f"only in the {'second' if one is None else 'first'} file"]
    if "error" in one or "error" in other:
        return [f"failed: {one.get('error')} | {other.get('error')}"]
    left, right = dict(flat(one["facts"])), dict(flat(other["facts"]))
    keys = [*left, *(key for key in right if key not in left)]
    return [
        f"{key}: {left.get(key, '(missing)')} | {right.get(key, '(missing)')}"
        for key in keys
        if left.get(key, "(missing)") != right.get(key, "(missing)")
    ]


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of nested facts, with the way to it."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from flat(item, f"{path}[{index}]")
    else:
        yield path, json.dumps(value)


if __name__ == "__main__":
    sys.exit(main())
