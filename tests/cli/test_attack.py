"""``dataunlearn attack`` from start to end on a tiny model, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataunlearn.cli import main as cli
from dataunlearn.models.saving import save_model


@pytest.fixture
def command(
    tmp_path: Path, make_model: Callable[..., Any], make_images: Callable[..., Any]
) -> list[str]:
    """A command on two models and three sets of pictures that lie in files."""
    for seed, name in enumerate(("model", "reference")):
        save_model(make_model(seed), tmp_path / name)
    for seed, (name, count) in enumerate((("forget", 1), ("keep", 6), ("held_out", 40))):
        np.save(tmp_path / f"{name}.npy", make_images(count, seed=seed)._pixels)
    sides = [f"--{name}={tmp_path / name}.npy" for name in ("forget", "keep")]
    few = ["--steps=2", "--every_steps=1", "--tries=2", "--regeneration_steps=2", "--seeds=[3]"]
    out = ["--out", str(tmp_path / "out")]
    return ["attack", "--model", str(tmp_path / "model"), *sides, *out, *few, "--batch_images=2"]


def test_an_attack_writes_numbers_a_table_and_plots(command: list[str], tmp_path: Path) -> None:
    held_out = ["--held-out", str(tmp_path / "held_out.npy"), "--membership.num_draws=1"]
    beside = ["--reference", str(tmp_path / "reference"), *held_out]
    assert cli.run([*command, *beside, "--membership.attacks=[sima]"]) == 0
    content = json.loads((tmp_path / "out/attack.json").read_text())
    assert content["relearned"].keys() == {"keep", "image"}
    for found in content["relearned"].values():
        assert [look["step"] for look in found["model"][0]["looks"]] == [0, 1, 2]
        assert found["beside_is"] == "reference" and len(found["beside"]) == 1
    assert content["membership_results"].keys() == {"model", "reference"}
    names = [result["name"] for result in content["membership_results"]["reference"]]
    assert names == [f"membership_sima_{k}_held_out" for k in ("auc", "tpr", "below", "above")]
    table = (tmp_path / "out/attack.md").read_text()
    assert "| training on keep images alone | the model | " in table
    assert "| a model that never saw the images |" in table
    assert "| membership_sima_above_held_out | " in table
    for on in ("keep", "image"):
        assert (tmp_path / f"out/relearning_{on}.png").read_bytes().startswith(b"\x89PNG")


def test_a_finished_attack_is_replaced_only_if_asked(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*command, "--on", "view", "--view", "negative"]) == 0
    content = json.loads((tmp_path / "out/attack.json").read_text())
    assert content["relearned"]["view"]["settings"]["view"] == "negative"
    assert content["relearned"]["view"]["beside"] == []
    assert content["membership_results"] == {}
    assert cli.run([*command, "--on", "keep"]) == 1
    assert "holds a finished run" in capsys.readouterr().err
    assert cli.run([*command, "--on", "keep", "--overwrite"]) == 0
    assert not (tmp_path / "out/relearning_view.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "keep,images"], "on must be one of keep, image, view, not 'images'"),
        (["--on", ","], "--on takes keep, image and view"),
        (["--view", "negative"], "--on does not name view"),
        (["--membership.num_draws", "1"], "no --held-out images"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--reference", "nowhere"], "nowhere does not exist"),
        (["--timestep", "1000"], "timestep must lie from 0 to 999"),
        (["--on", "view", "--view", "sideways"], "no view 'sideways' of these pictures"),
        (["--on", "keep,view", "--view", "sideways"], "no view 'sideways' of these pictures"),
    ],
)
def test_senseless_attacks_end_with_a_message_and_without_files(
    arguments: list[str],
    message: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run([*command, *arguments]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
