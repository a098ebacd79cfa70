"""Requests that name prompts: what the model draws by heart for them becomes their pictures."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dataunlearn.cli import main as cli
from dataunlearn.models import save_model
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.requests import prompts
from dataunlearn.requests.ledger import Ledger
from dataunlearn.requests.prompts import memorised_pictures, picture_of
from dataunlearn.requests.schema import LedgerError
from tiny_pipelines import stable_diffusion


def labelled(text: str, images: Tensor, labels: list[bool], original: Tensor | None = None) -> Any:
    labelling = SimpleNamespace(labels=torch.tensor(labels), share=sum(labels) / len(labels))
    data = SimpleNamespace(prompt=text)
    return SimpleNamespace(
        data=data, name=text, images=images, labelling=labelling, original=original
    )


def noise(count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((count, *shape), generator=generator) * 2 - 1


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is found of two prompts, one of them memorised: five near copies among eight samples."""
    shape = wrap_pipeline(stable_diffusion()).image_shape
    picture = noise(1, shape, 0)
    near = (picture + 0.02 * noise(5, shape, 1)).clamp(-1, 1)
    near[2] = picture[0]
    images = torch.cat([noise(3, shape, 2), near])
    known = labelled("red square", images, [False] * 3 + [True] * 5)
    unknown = labelled("blue circle", noise(8, shape, 3), [False] * 8)
    monkeypatch.setattr(prompts, "label_prompts", lambda *_, **__: [known, unknown])
    return SimpleNamespace(known=known, unknown=unknown, picture=picture[0])


def test_the_sample_nearest_to_all_memorised_ones_stands_for_them(found: Any) -> None:
    assert torch.equal(picture_of(found.known), found.picture)
    named = labelled("a", found.known.images, [True] * 8, original=found.unknown.images[0])
    assert torch.equal(picture_of(named), found.unknown.images[0])  # the training picture itself


def test_prompts_that_are_not_memorised_have_no_picture(found: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("red square\nblue circle\n")
    model, said = wrap_pipeline(stable_diffusion()), []
    images = memorised_pictures(model, tmp_path / "prompts.txt", 8, say=said.append)
    assert len(images) == 1
    assert images.caption(0) == "red square"
    assert "red square: 62% of 8 samples memorised" in said
    found.known.labelling.labels[:] = False
    with pytest.raises(LedgerError, match="has memorised no picture for the prompts"):
        memorised_pictures(model, tmp_path / "prompts.txt", 8, say=said.append)


def test_a_model_without_prompts_is_refused(make_model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes no prompts: name its pictures with --images"):
        memorised_pictures(make_model(), tmp_path / "prompts.txt", 8, say=print)


@pytest.mark.usefixtures("found")
def test_through_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pictures are copied into the project with their captions, and found again there."""
    model = wrap_pipeline(stable_diffusion())
    save_model(model, tmp_path / "base")
    side = model.image_shape[1]
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        (tmp_path / "keep").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "keep" / f"{number}.png")
        (tmp_path / "keep" / f"{number}.txt").write_text("green")
    (tmp_path / "prompts.txt").write_text("red square\nblue circle\n")
    project = tmp_path / "project"
    command = ["request", "add", "--project", str(project), "--device", "cpu"]
    command += ["--reference", "ticket 7", "--prompts", str(tmp_path / "prompts.txt")]
    base = ["--model", str(tmp_path / "base"), "--keep", str(tmp_path / "keep")]
    assert cli.run([*command, *base, "--image_size", str(side)]) == 0, capsys.readouterr().err
    with Ledger(project) as ledger:
        request = ledger.request(1)
        assert len(request.pictures) == 1
    captions = [
        path.read_text()
        for path in Path(request.source).rglob("*.*")
        if path.is_file() and path.suffix != ".png"
    ]
    assert any("red square" in text for text in captions)
    capsys.readouterr()
    both = ["--images", str(tmp_path / "keep" / "0.png")]
    assert cli.run([*command, *both]) == 1
    assert "give --images, or --prompts" in capsys.readouterr().err
    assert cli.run(command[:-2]) == 1
    assert "give --images, or --prompts" in capsys.readouterr().err
