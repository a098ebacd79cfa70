"""WithoutPrompt in the workflow on memorised prompts, on a tiny random pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.published_layout import write_labels, write_prompts
from dataunlearn.prompts.workflow import unlearn_prompts
from dataunlearn.runtime.files import read_log
from dataunlearn.training.trainer import Trainer
from dataunlearn.unlearning import preparing
from tiny_pipelines import stable_diffusion

STEPS = {"steps": 3, "batch_pairs": 2, "stop": {"every_steps": 0}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prompts of four random samples each, of which two are called memorised."""
    root = tmp_path_factory.mktemp("data")
    draw = torch.Generator().manual_seed(0)
    for folder in ("000", "001"):
        (root / folder / "images").mkdir(parents=True)
        for number in range(4):
            pixels = torch.randint(0, 256, (16, 16, 3), generator=draw, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(root / folder / "images" / f"{number}.png")
        write_labels(root / folder, {f"{number}.png": int(number < 2) for number in range(4)})
    write_prompts(root, {"000": "red", "001": "blue"}, {"000": "green", "001": "bird"})
    return root


def forget(model: Path, data: Path, out: Path, *, steps: Any = None, **settings: Any) -> Any:
    """The report's runs and the log of the first one."""
    config = PromptUnlearning(
        str(model),
        data,
        out,
        **{
            "fresh_samples": 2,
            "sampling_steps": 2,
            "optimise": "never",
            "min_keep": 1,
            "embedder": "pixels",
            "unlearning": {**STEPS, "objective": "WithoutPrompt", **(steps or {})},
            **settings,
        },
    )
    facts = unlearn_prompts(config, say=lambda text: None, shown=False)
    assert facts is not None
    return facts["runs"], read_log(next(iter(sorted(out.glob("run*/**/log.jsonl")))))


def test_no_levels_are_measured_for_it(
    model: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cost a pass for each sample, noise level and view, and nothing reads them."""

    def measured(*_: Any, **__: Any) -> None:
        raise AssertionError("levels were measured")

    monkeypatch.setattr(preparing, "levels_of", measured)
    _, log = forget(model, labelled, tmp_path / "out")
    assert [record["rows"] for record in log] == [4, 4, 4]  # two pairs of two rows


@pytest.mark.parametrize(
    ("steps", "settings", "count"),
    [
        ({"lora": {"rank": 2}}, {}, 1),
        ({}, {"one_run_each": True}, 2),
        ({}, {"condition_on": "modified"}, 1),
        ({"stop": {"every_steps": 1, "copies": 2}}, {}, 1),
        ({"timesteps": "Uniform", "keep_towards": "predictions"}, {}, 1),
    ],
    ids=["an adapter", "a run each", "the modified prompt", "a stop rule", "other timesteps"],
)
def test_it_goes_with(
    steps: Any, settings: Any, count: int, model: Path, labelled: Path, tmp_path: Path
) -> None:
    runs, log = forget(model, labelled, tmp_path / "out", steps=steps, **settings)
    assert len(runs) == count and len(log) == 3
    assert all(run["model"]["before"] != run["model"]["after"] for run in runs)
    assert log[0]["loss_forget"] > 0


def test_an_interrupted_run_goes_on_to_the_same_model(
    model: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = forget(model, labelled, tmp_path / "whole")
    plain_step = Trainer.step

    def cut(trainer: Trainer, number: int) -> dict[str, Any]:
        if number == 2:
            raise RuntimeError("power cut")
        return plain_step(trainer, number)

    steps = {"checkpoint_every_steps": 1}
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", cut)
        with pytest.raises(RuntimeError, match="power cut"):
            forget(model, labelled, tmp_path / "cut", steps=steps)
    resumed, log = forget(model, labelled, tmp_path / "cut", steps=steps)
    assert len(log) == 3
    assert resumed[0]["model"]["after"] == whole[0]["model"]["after"]
