"""What starting costs: importing the package, the command's help, and the help of every verb.

    python benchmarks/start.py --repeats 5

Each line is the median over processes of their own: seconds of processor time, user and system
together. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from collections.abc import Mapping

from dataunlearn.cli.main import VERBS


def starts() -> Mapping[str, list[str]]:
    """What is timed: its name, and Python's arguments."""
    imports = {
        "python -c pass": ["-c", "pass"],
        "import torch": ["-c", "import torch"],
        "import dataunlearn": ["-c", "import dataunlearn"],
    }
    helps = {
        " ".join(["dataunlearn", *verb, "--help"]): ["-m", "dataunlearn", *verb, "--help"]
        for verb in [[], *([verb] for verb in VERBS)]
    }
    return imports | helps


def processor_seconds(arguments: list[str]) -> float:
    """Processor time of Python with these arguments, from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time every start, in turn, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="processes that a median is over")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in starts()}
    for _ in range(args.repeats):
        for name, arguments in starts().items():
            seconds[name].append(processor_seconds(arguments))
    print("| start | processor seconds |\n|---|---|")
    for name, found in seconds.items():
        print(f"| `{name}` | {statistics.median(found):.2f} |")


if __name__ == "__main__":
    main()
