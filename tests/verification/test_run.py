"""A verification from start to end, on models that know the picture, or never saw it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from by_heart import ByHeart
from dataunlearn.cli import main as cli
from dataunlearn.data import open_images
from dataunlearn.models import DiffusionModel, save_model
from dataunlearn.runtime.exit_codes import NOT_FORGOTTEN
from dataunlearn.unlearning.verdict import Memory
from dataunlearn.verification.battery import checks_of, make_checks, planned
from dataunlearn.verification.config import EXTENTS, Extent, Verifying
from dataunlearn.verification.run import MADE_FILE, verify
from dataunlearn.verification.subject import Pictures, Subject, make_subject

SHAPE = (1, 8, 8)


@pytest.fixture
def pictures() -> Pictures:
    forget, keep, held_out = (
        np.random.default_rng(seed).integers(0, 256, (count, 8, 8), dtype=np.uint8)
        for seed, count in ((0, 2), (1, 24), (2, 60))
    )
    forget, keep, held_out = (open_images(each, SHAPE) for each in (forget, keep, held_out))
    return Pictures(forget, keep, held_out)


@pytest.fixture
def knowing(
    make_model: Callable[..., DiffusionModel], pictures: Pictures
) -> Callable[[bool], DiffusionModel]:
    """A model that knows the forget images by heart, or one that never saw them."""

    def make(known: bool) -> DiffusionModel:
        model = make_model()
        given = pictures.forget.batch(torch.arange(2)) if known else torch.zeros(0, *SHAPE)
        return replace(model, denoiser=ByHeart(model.process, given))

    return make


SETTINGS = Verifying(effort="quick", regeneration_steps=5)


@pytest.mark.parametrize("name", ["sampling_steps", "relearning_steps"])
def test_numbers_without_a_use_are_refused(name: str) -> None:
    replace(SETTINGS, regeneration_steps=7).require_used()
    replace(SETTINGS, effort="standard", **{name: 7}).require_used()
    with pytest.raises(ValueError, match=f"leave {name} out"):
        replace(SETTINGS, **{name: 7}).require_used()


def subject_of(
    model: DiffusionModel, pictures: Pictures, **others: DiffusionModel | None
) -> Subject:
    pictures = replace(pictures, held_out=None)  # which a quick one has no use for
    return make_subject(model, pictures, SETTINGS, shown=False, **others)  # type: ignore[arg-type]


def test_held_out_pictures_must_be_of_use_and_unseen(
    knowing: Callable[[bool], DiffusionModel], pictures: Pictures
) -> None:
    model = knowing(False)
    with pytest.raises(ValueError, match="no use for held-out"):
        make_subject(model, pictures, SETTINGS, shown=False)
    for seen in (pictures.forget, pictures.keep):
        with pytest.raises(ValueError, match="must be pictures that no model was trained on"):
            make_subject(model, replace(pictures, held_out=seen), Verifying(), shown=False)


def test_what_is_known_is_still_known(
    knowing: Callable[[bool], DiffusionModel], pictures: Pictures, tmp_path: Path
) -> None:
    subject = subject_of(knowing(True), pictures, before=knowing(True))
    found = verify(subject, tmp_path / "out", say=lambda _: None)
    assert found.memory is Memory.STILL_KNOWN
    assert found.exit_code == NOT_FORGOTTEN
    assert {check.name: check.memory for check in found.checks} == {
        "loss": Memory.STILL_KNOWN,
        "reproduction": Memory.STILL_KNOWN,
    }


@pytest.mark.parametrize("with_reference", [False, True])
def test_what_was_never_seen_is_as_if_never_seen(
    knowing: Callable[[bool], DiffusionModel],
    pictures: Pictures,
    tmp_path: Path,
    with_reference: bool,
) -> None:
    reference = knowing(False) if with_reference else None
    subject = subject_of(knowing(False), pictures, before=knowing(True), reference=reference)
    found = verify(subject, tmp_path / "out", say=lambda _: None)
    assert found.memory is Memory.NEVER_SEEN, found.text
    content = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert content["exit_code"] == 0
    assert content["settings"]["effort"] == "quick"
    page = (tmp_path / "out" / "verification.html").read_text()
    assert "As if never seen" in page
    assert "http" not in page.replace("http-equiv", "")


def test_without_a_model_before_the_loss_is_not_tried_and_said_so(
    knowing: Callable[[bool], DiffusionModel], pictures: Pictures, tmp_path: Path
) -> None:
    said: list[str] = []
    subject = subject_of(knowing(False), pictures)
    found = verify(subject, tmp_path / "out", say=said.append)
    assert found.left_out == {"loss": "it needs --before, the model before unlearning"}
    assert "left out: it needs --before" in said[0]
    assert "Not tried: loss" in found.text


def test_every_check_of_thorough_is_planned_and_made(
    make_model: Callable[..., DiffusionModel],
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a real network, with fewer tries: all checks run, with something beside each."""
    small = Extent(4, 6, EXTENTS["thorough"].membership, {"keep": 1, "view": 1, "image": 1})
    monkeypatch.setattr("dataunlearn.verification.config.EXTENTS", {**EXTENTS, "thorough": small})
    settings = Verifying(
        effort="thorough", regeneration_steps=2, sampling_steps=2, relearning_steps=2
    )
    models = [make_model(seed=seed) for seed in range(3)]
    subject = make_subject(
        models[0], pictures, settings, before=models[1], reference=models[2], shown=False
    )
    plans = planned(subject)
    names = [plan.check.name for plan in plans]
    relearning = ["relearning on keep", "relearning on view", "relearning on image"]
    assert names == ["loss", "reproduction", "membership", *relearning]
    assert all(plan.lacks is None and plan.seconds > 0 for plan in plans)
    found = verify(subject, tmp_path / "out", say=lambda _: None)
    assert [check.name for check in found.checks] == names
    page = (tmp_path / "out" / "verification.html").read_text()
    assert page.count("data:image/png") == 3


def test_an_interrupted_verification_goes_on_after_its_last_check(
    knowing: Callable[[bool], DiffusionModel],
    pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    subject = subject_of(knowing(True), pictures, before=knowing(True))
    whole = verify(subject, tmp_path / "whole", say=lambda _: None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("dataunlearn.verification.reproduction.measured", interrupt)
        verify(subject, tmp_path / "out", say=lambda _: None)
    assert (tmp_path / "out" / MADE_FILE).is_file()
    said: list[str] = []
    found = verify(subject, tmp_path / "out", say=said.append)
    assert any(line == "Made before: loss." for line in said)
    assert [check.words for check in found.checks] == [check.words for check in whole.checks]
    assert not (tmp_path / "out" / MADE_FILE).exists()


def test_estimates_count_what_is_run(
    knowing: Callable[[bool], DiffusionModel], pictures: Pictures
) -> None:
    """The passes that a check announces are those that the model makes."""
    subject = subject_of(knowing(False), pictures, before=knowing(True))
    made = [0]

    def count(module: nn.Module, given: tuple[Any, ...]) -> None:
        made[0] += len(given[0])

    subject.model.denoiser.register_forward_pre_hook(count)
    for check in checks_of(subject):
        made[0] = 0
        check(subject)
        announced = check.cost(subject).total
        assert 0.5 * announced <= made[0] <= 1.05 * announced, check.name


def test_the_command(
    make_model: Callable[..., DiffusionModel],
    pictures: Pictures,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_model(make_model(), tmp_path / "model")
    for name in ("forget", "keep"):
        images = getattr(pictures, name)
        np.save(tmp_path / f"{name}.npy", np.stack([images.pixels(i)[0] for i in range(2)]))
    command = ["verify", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    command += ["--forget", str(tmp_path / "forget.npy"), "--keep", str(tmp_path / "keep.npy")]
    command += ["--effort", "quick", "--regeneration_steps", "2", "--device", "cpu"]
    assert cli.run(command) in (0, 4, 5)
    said = " ".join(capsys.readouterr().err.split())
    assert "To be made, in about" in said
    assert "verification.html" in said
    assert cli.run(command) == 1  # a finished one is not replaced unasked
    assert cli.run([*command, "--overwrite"]) in (0, 4, 5)


def test_checks_made_before_are_not_made_again(
    knowing: Callable[[bool], DiffusionModel], pictures: Pictures
) -> None:
    subject = subject_of(knowing(True), pictures, before=knowing(True))
    first = make_checks(subject, planned(subject), {}, lambda _: None)
    known = {check.name: check for check in first.checks}
    again = make_checks(subject, planned(subject), known, lambda _: pytest.fail("made again"))
    assert again.checks == first.checks
