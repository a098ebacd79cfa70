"""How many pictures can be forgotten at once before the others notice?

    python experiments/never_seen/how_many.py --out runs/how_many

1, 12, 50 and 200 of the emoji model's training pictures, by the command's defaults: the planted
ones first, then such as were there once. For each count: what the losses came to, how many tries
restore one, what pictures to keep and pictures that were never there lose more, and how near
samples are to the training pictures. A second call goes on.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dataunlearn.cli import main as cli
from dataunlearn.runtime.exit_codes import UNLEARNED
from dataunlearn.unlearning.config import Unlearning
from dataunlearn.unlearning.job import prepare
from dataunlearn.unlearning.quality import KeepLosses, keep_losses, loss_rise

COUNTS = (1, 12, 50, 200)
MODEL, DATA = "models/emoji32", Path("data/emoji32.npz")
SEED = 20271


def pictures(count: int, place: Path) -> str:
    """The pictures to forget as a file: planted ones first, then others of the training set."""
    with np.load(DATA) as emoji:
        planted, train = emoji["planted"], emoji["train"]
    known = {picture.tobytes() for picture in planted}
    others = np.stack([picture for picture in train if picture.tobytes() not in known])
    place.mkdir(parents=True, exist_ok=True)
    np.save(place / "forget.npy", np.concatenate([planted, others])[:count])
    return str(place / "forget.npy")


def called(command: list[str]) -> None:
    """Run one of our commands.

    Raises:
        SystemExit: If it fails.
    """
    code = cli.run(command)
    if code not in UNLEARNED:
        raise SystemExit(f"{' '.join(command)} ended with {code}")


def forgotten(count: int, out: Path) -> dict[str, Any]:
    """Forget so many and say what became of everything."""
    place = out / str(count)
    forget, run, measured = pictures(count, place), place / "run", place / "measured"
    sides = ["--forget", forget, "--keep", f"{DATA}:train"]
    if not (run / "finished").exists():
        few = ["--evaluation.num_samples", "64", "--evaluation.regeneration_copies", "200"]
        named = ["--model", MODEL, "--drop_overlap", "--force", "--evaluation.seed", str(SEED)]
        called(["unlearn", *named, *sides, "--out", str(run), *few])
    if not (measured / "finished").exists():
        sampling = ["--num_samples", "320", "--sampling_steps", "20", "--seed", str(SEED)]
        model = ["--model", str(run / "model"), "--metrics", "kid"]
        called(["evaluate", *model, *sides, *sampling, "--out", str(measured)])
    report = json.loads((run / "report.json").read_text())
    kid = json.loads((measured / "results.json").read_text())["measures"]["kid"]["results"][0]
    return {
        "count": count,
        "steps": report["method"]["steps"],
        "settled_after": report["method"]["settled_after"],
        "memory": report["verdict"]["memory"],
        "quality": report["verdict"]["quality"],
        "over_level": report["after"].get("over_level"),
        "restored": report["after"]["regeneration"],
        "keep_loss": report["quality_change"]["keep_loss"],
        "unseen_loss": unseen_loss(run),
        "kid": {name: kid[name] for name in ("value", "interval")},
    }


def unseen_loss(run: Path) -> dict[str, Any]:
    """What pictures that were never there lose more than before, by noise level."""
    rise = loss_rise(unseen_losses(MODEL), unseen_losses(str(run / "model")))
    return {"timesteps": rise.timesteps, "ratios": rise.ratios, "intervals": rise.intervals}


@cache
def unseen_losses(model: str) -> KeepLosses:
    """What a model loses on pictures that were never there."""
    sides = {"forget": f"{DATA}:planted", "keep": f"{DATA}:held_out"}
    return keep_losses(prepare(Unlearning(model=model, out=Path("nowhere"), **sides), shown=False))


def main() -> None:
    """Forget each count, and write what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/how_many"))
    out: Path = parser.parse_args().out
    rows = [forgotten(count, out) for count in COUNTS]
    (out / "how_many.json").write_text(json.dumps(rows, indent=1))
    print("| pictures | steps | verdict | restored from half | keep | never there | KID |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        worst = [max(row[name]["ratios"]) - 1 for name in ("keep_loss", "unseen_loss")]
        cells = [row["count"], row["steps"], f"{row['memory']}, {row['quality']}"]
        cells += [f"{row['restored']['500']:.1%}", *(f"{each:+.1%}" for each in worst)]
        print(f"| {' | '.join(map(str, cells))} | {row['kid']['value']:.3f} |")


if __name__ == "__main__":
    main()
