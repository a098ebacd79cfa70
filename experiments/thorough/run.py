"""Try every method's model as an opponent would: ``verify --effort thorough``, method by method.

    python experiments/thorough/run.py experiments/never_seen/mnist.yaml --out runs/thorough_mnist
    python experiments/thorough/run.py experiments/never_seen/emoji.yaml --out runs/thorough_emoji

For the model before, each method of the recipe (training seed 0) and the twin: unlearn with the
recipe's settings if that is not done, verify beside another twin that never saw the pictures, and
write a table of what each check says. A second call goes on; ``--only NAME`` takes one of them, and
``--page NAME`` puts the table of what there is into docs/results/thorough.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dataunlearn.cli import main as cli

sys.path.append(str(Path(__file__).parents[1]))  # what experiments share
from results_page import refresh

PAGE = Path("docs/results/thorough.md")

FINISHED = (0, 3, 4, 5)
BEFORE, TWIN = "before", "never saw it"
CHECKS = (
    *("loss", "reproduction", "membership", "initial noise"),
    *("relearning on keep", "relearning on view", "relearning on image"),
)
SHORT = {"as if never seen": "✓", "still known": "known", "pushed past it": "pushed", None: "–"}


class Course:
    """The models of a recipe, and where their verifications go.

    Args:
        recipe: A benchmark's YAML file, with a reference and one model beside it.
        out: Folder for runs and verifications.
        effort: How hard each is tried.
    """

    def __init__(self, recipe: Path, out: Path, effort: str) -> None:
        content = yaml.safe_load(recipe.read_text())
        self.base, self.methods = content["base"], content["methods"]
        self.held_out = content["evaluate"].get("held_out")
        self.twin = content["reference"]
        (self.other_twin,) = content["beside"].values()
        self.out, self.effort = out, effort

    @property
    def names(self) -> list[str]:
        """All of them, in the table's order."""
        return [BEFORE, *self.methods, TWIN]

    def model(self, name: str) -> str:
        """Where a model is; a method's is made if it is not there.

        Raises:
            SystemExit: If unlearning fails.
        """
        if name in (BEFORE, TWIN):
            return str(self.base["model"] if name == BEFORE else self.twin)
        run = self.out / _folder(name) / "run"
        if not (run / "finished").exists():
            evaluation = {**self.base.get("evaluation", {}), "num_samples": 0, "digits": False}
            settings = {**self.base, **self.methods[name], "evaluation": evaluation, "seed": 0}
            file = self.out / f"{_folder(name)}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump(settings))
            _called(["unlearn", "--config", str(file), "--out", str(run), "--force"])
        return str(run / "model")

    def verify(self, name: str) -> None:
        """Verify a model, beside the twin; the twin itself beside another one."""
        reference = self.other_twin if name == TWIN else self.twin
        command = ["verify", "--model", self.model(name), "--before", str(self.base["model"])]
        command += ["--forget", self.base["forget"], "--keep", self.base["keep"]]
        command += ["--reference", str(reference), "--effort", self.effort]
        if self.held_out is not None:
            command += ["--held_out", self.held_out]
        if self.base.get("drop_overlap"):
            command += ["--drop_overlap", "true"]
        out = self.out / _folder(name) / self.effort
        if not (out / "finished").exists():
            _called([*command, "--out", str(out)])

    def row(self, name: str) -> list[str] | None:
        """A model's line of the table; None where it was not verified."""
        path = self.out / _folder(name) / self.effort / "verification.json"
        if not path.is_file():
            return None
        content = json.loads(path.read_text())
        said: dict[str, Any] = {each["name"]: each for each in content["checks"]}
        cells = [cell(said[check]) if check in said else "" for check in CHECKS]
        minutes = sum(each["seconds"] for each in content["checks"]) / 60
        return [name, *cells, content["memory"], f"{minutes:.0f}"]

    def table(self) -> str:
        """A Markdown table of all that were verified."""
        rows = [row for row in map(self.row, self.names) if row is not None]
        head = ["model", *CHECKS, "verdict", "minutes"]
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def cell(check: Mapping[str, Any]) -> str:
    """What a check says, and the number that it says it by."""
    memory = check["memory"]
    return f"{SHORT.get(memory, str(memory))} {NUMBERS[check['name']](check['numbers'])}"


def _loss(numbers: Mapping[str, Any]) -> str:
    ratios = (numbers.get("over_reference") or numbers["over_level"])["mean"]
    return f"{min(ratios):.2g} to {max(ratios):.2g}"


def _restored(numbers: Mapping[str, Any]) -> str:
    found = numbers["model"]
    shares = [f"{found['regeneration'][t]:.0%}" for t in ("500", "750")]
    copies = round(found["copy_frequency"] * found["num_samples"])
    return f"{', '.join(shares)}; {copies} of {found['num_samples']}"


def _membership(numbers: Mapping[str, Any]) -> str:
    return " ".join(f"{each['value']:.2f}" for each in numbers["model"] if "auc" in each["name"])


def _drawn(numbers: Mapping[str, Any]) -> str:
    found = numbers["model"]
    return f"{sum(found['copies'])} of {found['samples']}"


def _at_the_end(numbers: Mapping[str, Any]) -> str:
    last = [course["looks"][-1] for course in numbers["model"]]
    return f"{sum(x['restored'] for x in last)} of {sum(x['tries'] for x in last)}"


def _steps(numbers: Mapping[str, Any]) -> str:
    return " ".join("–" if step is None else str(step) for step in numbers["returned_after"])


NUMBERS = dict(
    zip(CHECKS, (_loss, _restored, _membership, _drawn, _at_the_end, _steps, _steps), strict=True)
)


def _folder(name: str) -> str:
    return name.replace(" ", "_")


def _called(command: list[str]) -> None:
    code = cli.run(command)
    if code not in FINISHED:
        raise SystemExit(f"{' '.join(command)} ended with {code}")


def main() -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--effort", default="thorough")
    parser.add_argument("--only")
    parser.add_argument("--page", help="runs nothing: the table's name in docs/results/thorough.md")
    chosen = parser.parse_args()
    course = Course(chosen.recipe, chosen.out, chosen.effort)
    if chosen.page:
        refresh(PAGE, course.table(), f"<!-- table {chosen.page} -->")
        return
    for name in [chosen.only] if chosen.only else course.names:
        course.verify(name)
    print(course.table())


if __name__ == "__main__":
    main()
