"""Make the prompt files of the emoji_sd experiment from data/emoji64.npz.

    python experiments/emoji_sd/make_prompts.py

``planted_tuning.yaml`` and ``planted_report.yaml`` are the planted prompts, each with its training
picture: settings are chosen on the first, numbers reported from the second. ``unnamed_tuning.txt``
and ``unnamed_report.txt`` are 100 other prompts each, drawn with a recorded seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

OUT, DATA = Path("experiments/emoji_sd"), Path("data/emoji64.npz")
SEED, NUM_UNNAMED = 0, 100


def main() -> None:
    """Write the four files."""
    with np.load(DATA, allow_pickle=False) as archive:
        names = [str(name) for name in archive["names"]]
        planted = {key: [str(n) for n in archive[f"planted_{key}_names"]] for key in HALVES}
        everything = {str(name) for name in archive["planted_names"]}
    OUT.mkdir(parents=True, exist_ok=True)
    for half, prompts in planted.items():
        entries = [
            {"prompt": name, "image": f"../../{DATA}:google[{names.index(name)}]"}
            for name in prompts
        ]
        (OUT / f"planted_{half}.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    others = [name for name in names if name not in everything]
    chosen = np.random.default_rng(SEED).permutation(len(others))[: 2 * NUM_UNNAMED]
    for half, rows in zip(HALVES, np.split(chosen, 2), strict=True):
        lines = "\n".join(others[row] for row in rows)
        (OUT / f"unnamed_{half}.txt").write_text(lines + "\n")


HALVES = ("tuning", "report")

if __name__ == "__main__":
    main()
