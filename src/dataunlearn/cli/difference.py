"""The actions of ``dataunlearn difference``, and their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dataunlearn.cli.runs import say

MODEL_HELP = "Pipeline folder, bare unet folder, or hub id."


def difference(action: str, **settings: Any) -> int:
    """One of the actions of ``dataunlearn difference``."""
    own = {name: value for name, value in settings[action].items() if name != "config"}
    return RUN[action](**own)


def save(*, before: str, after: str, out: Path) -> int:
    """Write what turns one version into the other."""
    from dataunlearn.models import load_model
    from dataunlearn.models.difference import difference_of, require_new_file, write_difference
    from dataunlearn.runtime.places import require_writable

    require_new_file(out)
    require_writable(out)
    found = difference_of(load_model(before), load_model(after))
    write_difference(found, out)
    say(f"{len(found.bits)} tensors differ. The difference is in {out}.")
    return 0


def apply(*, model: str, difference: Path, out: Path) -> int:
    """Make the version after of the version before."""
    return turned(model, difference, out, back=False)


def take_back(*, model: str, difference: Path, out: Path) -> int:
    """Make the version before of the version after."""
    return turned(model, difference, out, back=True)


def turned(model: str, difference: Path, out: Path, *, back: bool) -> int:
    """Make the other version, as a pipeline folder."""
    from dataunlearn.models import load_model, save_model
    from dataunlearn.models.difference import apply_difference, read_difference
    from dataunlearn.runtime.checks import require
    from dataunlearn.runtime.places import require_writable

    require(not out.exists(), f"{out} is there already: choose another --out")
    require_writable(out)
    found = read_difference(difference)
    opened = load_model(model)
    apply_difference(opened, found, back=back)
    save_model(opened, out)
    say(f"The version {'before' if back else 'after'} is in {out}.")
    return 0


RUN: Mapping[str, Callable[..., int]] = {"save": save, "apply": apply, "take-back": take_back}


def add_save(parser: Any) -> None:
    """Options of ``difference save``."""
    parser.add_argument("--before", type=str, required=True, help=f"First version. {MODEL_HELP}")
    parser.add_argument("--after", type=str, required=True, help=f"Second one. {MODEL_HELP}")
    parser.add_argument("--out", type=Path, required=True, help="File to write, FILE.safetensors.")


def add_turned(parser: Any) -> None:
    """Options of ``difference apply`` and ``difference take-back``."""
    parser.add_argument("--model", type=str, required=True, help=MODEL_HELP)
    parser.add_argument(
        "--difference", type=Path, required=True, help="File that `difference save` wrote."
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder for the new pipeline.")


TURNED_USAGE = "--model MODEL --difference FILE.safetensors --out DIR"
ACTIONS: Mapping[str, tuple[Callable[[Any], None], str, str]] = {
    "save": (
        add_save,
        "--before MODEL --after MODEL --out FILE.safetensors",
        "Write the difference between two versions of a model.",
    ),
    "apply": (add_turned, TURNED_USAGE, "Make the version after of the version before."),
    "take-back": (add_turned, TURNED_USAGE, "Make the version before of the version after."),
}
