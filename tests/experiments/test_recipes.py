"""Every recipe can be run as it lies there: its settings are good, and its files exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dataunlearn.bench.config import Benchmark
from dataunlearn.bench.measuring import evaluation_settings
from dataunlearn.cli import main as cli
from dataunlearn.models.loading import ModelSource
from dataunlearn.prompts.prompt_file import read_prompt_file
from dataunlearn.unlearning.parsing import parse_settings

ROOT = Path(__file__).parents[2]
FILES = {
    str(file.relative_to(ROOT)): yaml.safe_load(file.read_text())
    for file in sorted((ROOT / "experiments").rglob("*.yaml"))
}
RECIPES = [name for name, content in FILES.items() if isinstance(content, dict)]
PROMPTS = sorted(set(FILES) - set(RECIPES))
MEASURED = [name for name in RECIPES if "prompts" not in FILES[name]["base"]]
# What a recipe names and the repository does not hold: results of commands, data sets, a hub id.
ELSEWHERE = ("runs/", "celeba_hq", "mnist_tshirt.npz:", "google/ddpm-celebahq-256")
PATHS = ("model", "forget", "keep", "prompts", "prior", "unnamed", "reference", "held_out")
IN_ARCHIVE = re.compile(r"(.+\.npz):(\w+)(?:\[(\d+)\])?")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def named(settings: dict[str, Any]) -> Iterator[str]:
    """The paths that settings give, those of every method included."""
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from named(value)
        elif key in PATHS and value is not None:
            yield value


def is_there(path: str) -> bool:
    """Whether a file or folder exists, or that row of that array of an archive."""
    archive = IN_ARCHIVE.fullmatch(path)
    if archive is None:
        return Path(path).exists()
    file, key, row = archive.groups()
    return int(row or 0) < rows(Path(file).resolve(), key)


@cache
def rows(file: Path, key: str) -> int:
    """How many pictures an array of an archive holds; none if there is no such array."""
    with np.load(file) as arrays:
        return len(arrays[key]) if key in arrays else 0


def test_there_are_recipes_and_prompt_files() -> None:
    assert len(RECIPES) > 5
    assert [f"experiments/emoji_sd/planted_{half}.yaml" for half in ("report", "tuning")] == PROMPTS


@pytest.mark.parametrize("name", RECIPES)
def test_a_dry_run_accepts_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", name, "--dry-run"]) == 0, capsys.readouterr().err


class OpensAModelError(Exception):
    """All settings were accepted: work would begin."""


@pytest.mark.parametrize("name", MEASURED)
def test_its_evaluation_is_accepted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dry run does not look at these; the command itself does before it opens a model."""

    def opened(*_: Any) -> None:
        raise OpensAModelError

    monkeypatch.setattr(ModelSource, "open", opened)
    recipe = parse_settings(Benchmark, FILES[name])
    config = tmp_path / "measured.json"
    settings = evaluation_settings(recipe, recipe.base["model"], tmp_path / "measured")
    config.write_text(json.dumps(settings))
    with pytest.raises(OpensAModelError):
        cli.run(["evaluate", "--config", str(config)])


@pytest.mark.parametrize("name", RECIPES)
def test_the_files_it_names_exist(name: str) -> None:
    paths = [path for path in named(FILES[name]) if not path.startswith(ELSEWHERE)]
    assert [path for path in paths if not is_there(path)] == []


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_file_names_pictures_that_exist(name: str) -> None:
    pictures = [str(spec.image) for spec in read_prompt_file(Path(name))]
    assert len(pictures) == 12
    assert [path for path in pictures if not is_there(path)] == []


def test_folders_are_named_after_their_pages() -> None:
    folders = {file.name for file in ROOT.glob("experiments/*/") if file.name != "__pycache__"}
    pages = {file.stem for file in ROOT.glob("docs/results/*.md")}
    # Those of fuzz are in docs/robustness.md; the others have no results yet.
    assert folders - pages == {"celeba_hq", "fuzz"}
    assert pages - folders == {"speed"}  # is made by benchmarks/
