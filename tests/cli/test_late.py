"""What does not fit is refused before any work: nothing is written, whichever verb it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataunlearn.cli import main as cli
from dataunlearn.models import save_model

SIDES = ["--forget", "forget.npy", "--keep", "keep.npy"]
VERBS = {
    "unlearn": [*SIDES, "--force", "--steps", "2", "--batch_pairs", "2"],
    "evaluate": [*SIDES, "--metrics", "copies", "--num_samples", "8", "--sampling_steps", "2"],
    "attack": [*SIDES, "--steps", "1", "--tries", "2"],
    "verify": [*SIDES, "--effort", "quick"],
    "audit": ["--images", "forget.npy", "--keep", "keep.npy"],
}
LATE = [
    ("unlearn", ["--objective", "WithoutPrompt"], "is for models that take prompts"),
    ("unlearn", ["--objective", "ReTrack"], "neighbours are wanted"),
    ("unlearn", ["--stop.timestep", "5000"], "stop.timestep must lie from 0 to 999"),
    ("unlearn", ["--evaluation.regeneration_timesteps=[5000]"], "must lie from 0 to 999"),
    ("unlearn", ["--timesteps", "Window", "--timesteps.lo=9", "--timesteps.hi=5000"], "5000"),
    ("unlearn", ["--guidance", "3"], "--guidance is for text-to-image"),
    ("unlearn", ["--prompt_dropout", "0.5"], "prompt_dropout is for models with prompts"),
    ("unlearn", ["--reference", "nowhere"], "nowhere does not exist"),
    ("evaluate", ["--prompts", "a red square"], "takes no prompts"),
    ("evaluate", ["--held_out", "keep.npy"], "that no model was trained on"),
    ("evaluate", ["--metrics=regeneration", "--regeneration.timesteps=[5000]"], "0 to 999"),
    ("evaluate", ["--metrics=membership", "--membership.timesteps=[5000]"], "0 to 999"),
    ("evaluate", ["--metrics", "never_seen"], "--before"),
    ("attack", ["--held_out", "keep.npy"], "that no model was trained on"),
    ("attack", ["--timestep=-9223372036854775808"], "timestep must lie from 0 to 999"),
    ("attack", ["--timestep", "1000"], "timestep must lie from 0 to 999"),
    ("attack", ["--on", "keep,view", "--view", "sideways"], "no view 'sideways'"),
    ("verify", ["--guidance", "3"], "--guidance is for text-to-image"),
    ("audit", ["--guidance", "3"], "--guidance is for text-to-image"),
]


@pytest.mark.parametrize(("verb", "more", "said"), LATE)
def test_nothing_is_written(
    verb: str,
    more: list[str],
    said: str,
    tmp_path: Path,
    make_model: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(make_model(), tmp_path / "base")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    for name, part in (("forget", pixels[:1]), ("keep", pixels[1:])):
        np.save(f"{name}.npy", part)
    command = [verb, "--model", "base", *VERBS[verb], "--out", "out", "--device", "cpu", *more]
    assert cli.run(command) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
