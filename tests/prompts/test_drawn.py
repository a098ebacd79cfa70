"""Samples and labels belong to a prompt, a model and settings, not to a position in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.drawn import RECORD_FILE
from dataunlearn.prompts.published_layout import write_labels
from dataunlearn.prompts.samples import label_prompts
from tiny_pipelines import stable_diffusion


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    folder = tmp_path_factory.mktemp("model")
    stable_diffusion().save_pretrained(folder)
    found = load_model(folder)
    found.denoiser.eval()
    return found


class Run:
    """A run up to its labels, with a file of prompts that may change between calls."""

    def __init__(self, model: DiffusionModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.file, self.data = folder / "prompts.yaml", folder / "run" / "data"
        self.config = PromptUnlearning(
            "model", self.file, folder / "run", images_per_prompt=4, sampling_steps=1
        )

    def label(self, *prompts: object) -> tuple[list[str], list[str]]:
        """The prompts that there are samples of, and what was said of them."""
        self.file.write_text(json.dumps(prompts))
        said: list[str] = []
        found = label_prompts(self.model, self.config, said.append, shown=False)
        return [prompt.data.prompt for prompt in found], said[:-1]

    def pictures(self) -> dict[str, bytes]:
        files = sorted(self.data.glob("*/images/0000.png"))
        return {file.parts[-3]: file.read_bytes() for file in files}


@pytest.fixture
def run(model: DiffusionModel, tmp_path: Path) -> Run:
    return Run(model, tmp_path)


def test_samples_of_another_prompt_are_drawn_anew(
    run: Run, model: DiffusionModel, tmp_path: Path
) -> None:
    """Afterwards they are what a run that never knew the other prompts draws."""
    assert run.label("red", "blue") == (["red", "blue"], [])
    before = run.pictures()
    assert run.label("red", "blue") == (["red", "blue"], [])
    assert run.pictures() == before
    prompts, said = run.label("green", "red", "blue")
    assert prompts == ["green", "red", "blue"]
    assert said == [
        "000: samples and labels are made anew, prompt: red -> green.",
        "001: samples and labels are made anew, prompt: blue -> red.",
    ]
    (tmp_path / "new").mkdir()
    anew = Run(model, tmp_path / "new")
    anew.label("green", "red", "blue")
    assert run.pictures() == anew.pictures()


def test_a_prompt_that_is_no_longer_there(run: Run) -> None:
    run.label("red", "blue")
    prompts, said = run.label("red")
    assert prompts == ["red"]
    assert said == ["001: samples and labels are removed, prompt 'blue' is no longer in the file."]


@pytest.mark.parametrize("network", ["denoiser", "vae", "text encoder", "scheduler"])
def test_samples_of_another_model_are_drawn_anew(run: Run, network: str) -> None:
    run.label("red")
    pipeline = stable_diffusion()
    pipeline.save_pretrained(run.folder / "other")
    run.model = load_model(run.folder / "other")
    networks = {
        "denoiser": run.model.denoiser,
        "vae": run.model.pipeline.vae,
        "text encoder": run.model.pipeline.text_encoder,
    }
    assert run.label("red")[1] == []
    if network in networks:
        with torch.no_grad():
            next(networks[network].parameters()).add_(0.1)
    else:
        run.model.pipeline.scheduler.register_to_config(beta_end=0.03)
    (said,) = run.label("red")[1]
    assert "have changed" in said or "scheduler.beta_end" in said


def test_settings_of_drawing_count(run: Run) -> None:
    run.label("red")
    run.config = replace(run.config, sampling_steps=2)
    assert "sampling_steps: 1 -> 2" in run.label("red")[1][0]


def test_corrected_labels_are_not_thrown_away(run: Run) -> None:
    run.label("red", "blue")
    labels = {f"{number:04d}.png": int(number < 2) for number in range(4)}
    write_labels(run.data / "001", labels)
    assert run.label("red", "blue")[1] == []
    before = run.pictures()
    with pytest.raises(ValueError, match=r"001 has labels that were corrected .* blue -> red"):
        run.label("green", "red")
    assert run.pictures() == before


def test_labels_follow_the_training_image(run: Run) -> None:
    run.label("red")
    image = run.data / "000" / "images" / "0001.png"
    first = json.loads((run.data / "000" / RECORD_FILE).read_text())["labels"]["image"]
    run.label({"prompt": "red", "image": str(image)})
    second = json.loads((run.data / "000" / RECORD_FILE).read_text())["labels"]["image"]
    assert first is None
    assert second is not None


def test_training_that_has_begun_with_other_samples_does_not_go_on(run: Run) -> None:
    run.label("red")
    (run.config.out / "run" / "checkpoints" / "1").mkdir(parents=True)
    assert run.label("red")[1] == []
    for prompts in (["green"], ["red", "blue"]):
        with pytest.raises(ValueError, match="training that has begun with other samples"):
            run.label(*prompts)


def test_samples_of_unknown_origin_are_not_taken(run: Run) -> None:
    run.label("red")
    (run.data / "000" / RECORD_FILE).unlink()
    with pytest.raises(ValueError, match=r"no drawn\.json .* to take them as they are"):
        run.label("red")
