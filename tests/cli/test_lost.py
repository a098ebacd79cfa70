"""What the command must never do to what is there already: each verb that writes into a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from conftest import TINY_UNET
from dataunlearn.cli import main as cli


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that was a run's, with everything that a run reads inside."""
    folder = tmp_path / "out"
    DDPMPipeline(UNet2DModel(**TINY_UNET), DDPMScheduler()).save_pretrained(folder / "base")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    for name, part in (("forget", pixels[:1]), ("keep", pixels[1:])):
        np.save(folder / f"{name}.npy", part)
    (folder / "run.yaml").write_text("seed: 3\n")
    (folder / "settings.json").write_text("{}")
    (folder / "finished").touch()
    return folder


def content(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


VERBS = {
    "unlearn": ["--model", "base", "--forget", "forget.npy", "--keep", "keep.npy"],
    "audit": ["--model", "base", "--images", "forget.npy"],
    "evaluate": ["--model", "base", "--metrics", "copies", "--forget", "forget.npy"],
    "attack": ["--model", "base", "--forget", "forget.npy", "--keep", "keep.npy"],
    "train": ["--recipe", "mnist_tshirt_small", "--images", "keep.npy"],
    "unlearn-prompts": ["--model", "base", "--prompts", "prompts.txt"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_inputs_inside_the_output_are_refused_before_anything_is_touched(
    verb: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(out)
    arguments = [str(out / each) if (out / each).exists() else each for each in VERBS[verb]]
    assert cli.run([verb, *arguments, "--out", str(out), "--overwrite"]) == 1
    assert "lies inside --out" in " ".join(capsys.readouterr().err.split())
    assert content(out) == before


@pytest.mark.parametrize("verb", ["unlearn", "audit"])
def test_so_is_a_config_file(
    verb: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(out)
    if verb == "audit":
        (out / "run.yaml").write_text("max_images: 3\n".replace("max_images", "seed"))
        before = content(out)
    given = [each if each.startswith("--") else str(tmp_path / each) for each in VERBS[verb]]
    command = [verb, "--config", str(out / "run.yaml"), *given, "--out", str(out), "--overwrite"]
    assert cli.run(command) == 1
    assert "--config" in capsys.readouterr().err
    assert content(out) == before


@pytest.mark.parametrize("place", ["file/run", "n" * 300])
@pytest.mark.parametrize("verb", [*VERBS, "sample"])
def test_places_that_cannot_be_written_are_refused_at_once(
    verb: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model does not exist either, but that is found out by opening it."""
    (tmp_path / "file").touch()
    own = VERBS.get(verb, ["--model", "base"])
    given = [each if each.startswith("--") else str(tmp_path / each) for each in own]
    if verb == "train":
        given = VERBS[verb]
    if verb == "evaluate":
        given[3] = "copies"
    name = f"{place}.png" if verb == "sample" else place
    assert cli.run([verb, *given, "--out", str(tmp_path / name)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "choose another" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_so_is_a_name_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(["unlearn", *VERBS["unlearn"], "--out", str(tmp_path / "caf\udce9")])
    assert stop.value.code == 2
    assert "--out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_to_go_on_with_does_not_begin_anew() -> None:
    begun = ["unlearn", "--overwrite", "--out", "o", "--overwrite=true", "--overwrite", "true"]
    assert cli.without_overwrite(begun) == ["unlearn", "--out", "o"]
    assert cli.without_overwrite(["a", "--overwrite", "b", "true"]) == ["a", "b", "true"]
