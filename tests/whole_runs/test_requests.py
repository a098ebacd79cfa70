"""Removal requests from the first to the signed version, through the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from dataunlearn.cli import main as cli
from dataunlearn.data import open_images
from dataunlearn.models import DiffusionModel, load_model, save_model
from dataunlearn.requests import verifying
from dataunlearn.requests.ledger import Ledger
from dataunlearn.requests.making import Maker
from dataunlearn.requests.models import settings_of
from dataunlearn.requests.records import Verification, Version, VersionState
from dataunlearn.requests.verifying import Verifier
from dataunlearn.requests.words import listing
from dataunlearn.runtime.exit_codes import ALTERED
from dataunlearn.runtime.files import write_sealed
from dataunlearn.runtime.lock import locked
from dataunlearn.runtime.sealed import read_sealed
from dataunlearn.training.engine import trainable
from dataunlearn.training.restraints import Restraint, flat
from dataunlearn.unlearning.job import Job
from dataunlearn.unlearning.quick_look import QuickLook
from dataunlearn.unlearning.restraining import restraint_of

UNLEARNING = {
    "steps": 4,
    "batch_pairs": 4,
    "checkpoint_every_steps": 1,
    "evaluation": {
        "num_samples": 8,
        "regeneration_copies": 4,
        "sampling_steps": 3,
        "regeneration_steps": 3,
    },
}


@pytest.fixture
def place(tmp_path: Path, make_model: Callable[..., DiffusionModel]) -> Path:
    """A tiny model, pictures to keep and two to forget, on disk."""
    save_model(make_model(), tmp_path / "base")
    (tmp_path / "keep").mkdir()
    for number in range(8):
        where = tmp_path / "keep" if number < 6 else tmp_path
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(where / f"{number}.png")
    return tmp_path


def add(place: Path, picture: str, *more: str) -> int:
    command = ["request", "add", "--project", str(place / "project"), "--device", "cpu"]
    command += ["--images", str(place / picture), "--reference", f"letter about {picture}"]
    command += ["--model", str(place / "base"), "--keep", str(place / "keep")]
    return cli.run([*command, *more])


def apply(place: Path, *more: str, unlearning: dict[str, Any] | None = None) -> int:
    return cli.run([*apply_command(place, unlearning), *more])


def apply_command(place: Path, unlearning: dict[str, Any] | None = None) -> list[str]:
    settings = json.dumps(UNLEARNING if unlearning is None else unlearning)
    project = ["--project", str(place / "project"), "--device", "cpu"]
    return ["request", "apply", *project, "--unlearning", settings]


@pytest.fixture
def everything_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model was trained on nothing: take it that it knows every picture."""
    monkeypatch.setattr("dataunlearn.requests.verifying.Verifier.known_by", lambda *_, **__: "so")


@pytest.mark.usefixtures("everything_known")
def test_two_requests_one_after_the_other(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert add(place, "6.png") == 0
    first = apply(place, "--accept")
    assert add(place, "7.png", "--copy") == 0
    (place / "7.png").unlink()  # a copy is in the project
    second = apply(place, "--accept")
    assert {first, second} <= {0, 4, 5}
    project = place / "project"
    with Ledger(project) as ledger:
        assert ledger.answered == {1: 1, 2: 2}
        assert [version.id for version in ledger.chain] == [0, 1, 2]
        assert [v.request for v in ledger.verifications(version=2)] == [1, 2]
        assert ledger.head.verdict["text"]
        weights = [version.weights_sha256 for version in ledger.chain]
    assert len(set(weights)) == 3
    for version in ("0001", "0002"):
        folder = project / "versions" / version
        DiffusionPipeline.from_pretrained(str(folder / "model"))
        assert cli.run(["check", str(folder)]) == 0
        signed = json.loads((folder / "signature.json").read_text())["statement"]
        assert {"report.html", "report.json", "model/model_index.json"} <= signed["files"].keys()
        assert signed["facts"]["verifications"]
        title = f"Request {int(version)}: letter about {5 + int(version)}.png (version "
        assert title in (folder / "report.html").read_text()
    assert not any((place / "keep").glob("*.lock"))
    assert cli.run(["check", str(project)]) == 0
    capsys.readouterr()
    assert cli.run(["request", "list", "--project", str(project)]) == 0
    shown = capsys.readouterr().out
    assert "letter about 6.png" in shown
    assert "head: version 2" in shown
    kept = (project / "ledger.sqlite").read_bytes()
    connection = sqlite3.connect(project / "ledger.sqlite")
    connection.execute("DELETE FROM events WHERE what = 'verified'")
    connection.commit()
    connection.close()
    assert cli.run(["check", str(project)]) == ALTERED
    assert "was altered or taken out" in capsys.readouterr().err
    (project / "ledger.sqlite").write_bytes(kept)
    (project / "versions" / "0001" / "report.html").write_text("all is well")
    (project / "versions" / "0002" / "signature.json").unlink()
    assert cli.run(["check", str(project)]) == ALTERED
    shown = capsys.readouterr().err
    assert "altered: report.html" in shown and "missing: signature.json" in shown


def test_a_project_without_versions_has_a_ledger_to_check(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(place, "6.png") == 0
    assert cli.run(["check", str(place / "project")]) == 0
    said = capsys.readouterr().err
    assert "as its record of events tells" in said
    assert "No version of" in said


@pytest.mark.parametrize(
    ("memory", "made"),
    [("still known", 1), ("cannot tell", 1), ("as if never seen", 0), ("pushed past it", 0)],
)
def test_only_what_the_model_does_not_know_for_certain_is_answered_as_it_is(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    memory: str,
    made: int,
) -> None:
    """Where a quick look finds nothing, the verification of the head decides."""
    verify = Verifier.verify
    of_the_head: list[Verification] = []

    def said(self: Verifier, version: Version, *given: Any) -> Verification:
        found = replace(verify(self, version, *given), memory=memory)
        of_the_head.extend([found] if version.id == 0 else [])
        return found

    monkeypatch.setattr(Verifier, "known_by", lambda *_: None)
    monkeypatch.setattr(Verifier, "verify", said)
    assert add(place, "6.png") == 0
    assert apply(place, "--accept") in (0, 4, 5)
    assert len(of_the_head) == 1
    printed = " ".join(capsys.readouterr().err.split())
    words = {"still known": "knows", "cannot tell": "may know"}.get(memory, "does not know")
    assert f"Request 1: the model {words} its pictures" in printed
    with Ledger(place / "project") as ledger:
        assert len(ledger.versions) == 1 + made


def test_a_single_try_that_comes_near_is_not_known_for_certain(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert add(place, "6.png") == 0
    with Ledger(place / "project") as ledger:
        settings = settings_of(ledger.project, UNLEARNING)
    model = load_model(place / "base")
    images, keep = (open_images(place / side, model.image_shape) for side in ("6.png", "keep"))
    verifier = Verifier(settings, keep, "keep", shown=False)
    none = torch.zeros(1, dtype=torch.bool)
    for look, ratio, known in (
        (QuickLook(0.06, 0.0, none), 0.9, None),
        (QuickLook(0.9, 0.06, none), 0.9, "it restores them in 6%"),
        (QuickLook(0.06, 0.0, none), 0.1, "its loss on them is down to 10%"),
    ):
        monkeypatch.setattr(verifying, "quick_look", lambda _, found=look: found)
        monkeypatch.setattr(verifying, "loss_of_unseen", lambda _, found=ratio: found)
        monkeypatch.setattr(verifying, "is_recognised", lambda _, found=ratio: found < 0.6)
        found = verifier.known_by(model, images)
        assert found is None if known is None else found.startswith(known)


def test_copies_in_a_folder_count_once_and_that_is_said(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = place / "twice"
    twice.mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(place / "6.png", twice / name)
    assert add(place, "twice") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of the 2 pictures are the same as others" in said
    assert "Request 1 (letter about twice): 1 picture." in said


def test_a_project_that_is_in_use_is_waited_for(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another folder would be another ledger."""
    with locked(place / "project"):
        assert add(place, "6.png") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "wait for it or stop it" in said
    assert "another folder" not in said


def test_a_refused_first_request_leaves_no_folder(place: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(place / "large.png")
    assert add(place, "large.png") == 1
    assert not (place / "project").exists()


@pytest.mark.usefixtures("everything_known")
def test_what_is_not_accepted_stays_open_until_it_is(place: Path) -> None:
    assert add(place, "6.png") == 0
    destroying = {**UNLEARNING, "learning_rate": 1.0, "objective": "NegGrad"}
    destroying |= {"stop": {"then": "end"}}
    assert apply(place, unlearning=destroying) in (4, 5)
    project = place / "project"
    with Ledger(project) as ledger:
        assert ledger.head.id == 0
        assert ledger.version(1).state is VersionState.MADE
        assert [request.id for request in ledger.open] == [1]
    log = (project / "versions" / "0001" / "log.jsonl").read_bytes()
    assert apply(place, "--accept", "--duplicates", "take", unlearning=destroying) == 1
    assert accept(place) in (4, 5)  # no settings: those that it was made with
    with Ledger(project) as ledger:
        assert ledger.accepted == {1}
        assert listing(ledger).count("; taken by --accept") == 1
        assert ledger.head.id == 1  # the same version: nothing was trained anew
        assert len(ledger.versions) == 2
    assert (project / "versions" / "0001" / "log.jsonl").read_bytes() == log
    assert cli.run(["request", "rollback", "--project", str(project), "--to", "0"]) == 0
    with Ledger(project) as ledger:
        assert [request.id for request in ledger.open] == [1]
    assert accept(place) in (4, 5)
    with Ledger(project) as ledger:
        assert ledger.head.id == 1  # back again


@pytest.mark.usefixtures("everything_known")
@pytest.mark.parametrize(("limit", "head"), [("0.01", 0), ("1e6", 1)])
def test_a_version_too_far_from_the_first_model_is_not_made_the_head(
    limit: str,
    head: int,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However good its own verdict is: small losses add up over versions."""
    make = Maker.make

    def approved(maker: Maker, version: Version) -> Version:
        made = make(maker, version)
        return replace(made, verdict={**made.verdict, "exit_code": 0})

    monkeypatch.setattr(Maker, "make", approved)
    monkeypatch.setattr(Maker, "verify", lambda *_: [])
    assert add(place, "6.png") == 0
    rising = {**UNLEARNING, "learning_rate": 0.02, "objective": "NegGrad"}
    rising |= {"stop": {"then": "end"}}
    apply(place, "--most_drift", limit, unlearning=rising)
    assert ("--most_drift 0.01 allows" in capsys.readouterr().err) == (head == 0)
    with Ledger(place / "project") as ledger:
        assert ledger.head.id == head
        drift = ledger.version(1).verdict["drift"]
    assert drift["is_too_far"] == (head == 0)
    assert drift["worst"] > 1.01


@pytest.mark.usefixtures("everything_known")
def test_earlier_requests_are_looked_at_together(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not clear is verified on its own, so that each has a verification."""
    for number in range(4):
        pixels = np.random.default_rng(50 + number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"of {number}.png")
        assert add(place, f"of {number}.png") == 0
        if number >= 2:
            assert apply(place, "--accept") in (0, 4, 5)
    said = capsys.readouterr().err
    assert "of 3 earlier requests are clear: looked at together." in said
    with Ledger(place / "project") as ledger:
        assert [each.request for each in ledger.verifications(version=2)] == [1, 2, 3, 4]


def test_an_anchor_in_a_ledger_draws_to_the_first_model(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the version before, from which small drifts would add up."""
    monkeypatch.setattr("dataunlearn.requests.verifying.Verifier.known_by", lambda *_, **__: "so")
    seen = []

    def recorded(job: Job, **options: Any) -> Restraint:
        found = restraint_of(job, **options)
        own = flat(trainable(job.model.denoiser))
        assert found.centre is not None
        seen.append((own, found.centre))
        return found

    monkeypatch.setattr("dataunlearn.unlearning.run.restraint_of", recorded)
    anchored = {**UNLEARNING, "anchor": {"weight": 1}}
    for picture in ("6.png", "7.png"):
        assert add(place, picture) == 0
        assert apply(place, "--accept", unlearning=anchored) in (0, 4, 5)
    (first, centre), (second, same) = seen
    assert torch.equal(first, centre)
    assert torch.equal(first, same)
    assert not torch.equal(first, second)


def accept(place: Path) -> int:
    project = ["--project", str(place / "project"), "--device", "cpu"]
    return cli.run(["request", "apply", *project, "--accept"])


def test_what_the_model_does_not_know_needs_no_version(place: Path) -> None:
    assert add(place, "6.png") == 0
    assert apply(place) == 0
    with Ledger(place / "project") as ledger:
        assert ledger.answered == {1: 0}
        assert ledger.head.id == 0
        assert len(ledger.verifications(request=1)) == 1


@pytest.mark.usefixtures("everything_known")
def test_duplicates_want_a_decision(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.asarray(Image.open(place / "6.png")).astype(int)
    near = np.clip(pixels + 2, 0, 255).astype(np.uint8)
    Image.fromarray(near[:, ::-1].copy()).save(place / "keep" / "near.png")
    assert add(place, "6.png") == 0
    assert apply(place) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "near.png looks like" in said
    assert "mirrored" in said
    with Ledger(place / "project") as ledger:
        assert len(ledger.versions) == 1
    assert apply(place, "--duplicates", "take", "--accept") in (0, 4, 5)
    report = json.loads((place / "project" / "versions" / "0001" / "report.json").read_text())
    assert report["forget"]["count"] == 2
    assert report["keep"]["count"] == 6


@pytest.mark.usefixtures("everything_known")
def test_a_changed_model_or_other_settings_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str], make_model: Callable[..., DiffusionModel]
) -> None:
    assert add(place, "6.png") == 0
    with Ledger(place / "project") as ledger:
        ledger.begin([1], {"unlearning": {"steps": 9}, "duplicates": []})
    assert apply(place) == 1
    assert "--restart gives it up" in " ".join(capsys.readouterr().err.split())
    save_model(make_model(seed=5), place / "base")
    assert apply(place, "--restart") == 1
    assert "are not those of version 0" in " ".join(capsys.readouterr().err.split())


def test_refusals_come_before_anything_is_written(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = ["--project", str(place / "project")]
    image = ["--images", str(place / "6.png")]
    wrong = [
        (["add", *project, *image, "--reference", "a"], "its first request says --model"),
        (["apply", *project], "has no ledger"),
        (["list", *project], "has no ledger"),
    ]
    wrong += [([verb, *project], "has no ledger") for verb in ("verify", "purge")]
    wrong += [(["rollback", *project, "--to", "0"], "has no ledger")]
    for arguments, said in wrong:
        assert cli.run(["request", *arguments]) == 1
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (place / "project").exists()
    assert add(place, "6.png", "--received", "yesterday") == 1
    assert add(place, "nothing.png") == 1
    assert not (place / "project" / "ledger.sqlite").exists()


@pytest.mark.usefixtures("everything_known")
def test_purge_removes_what_holds_or_knows_a_picture(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataunlearn.requests.purging._is_known", lambda *_: False)
    project = place / "project"
    for picture in ("6.png", "7.png"):
        assert add(place, picture, "--copy") == 0
        assert apply(place, "--accept") in (0, 4, 5)
    original = np.asarray(Image.open(place / "6.png"))[:, :, None]
    runs = [project / "versions" / version for version in ("0001", "0002")]
    assert (shown_in(runs[0]) == original).all(axis=(1, 2, 3)).any()
    purge = ["request", "purge", "--project", str(project)]
    assert cli.run(purge) == 0  # nothing is thirty days old
    assert (runs[0] / "model").is_dir()
    other = runs[0] / "mine.txt"
    other.write_text("not the project's")
    assert cli.run([*purge, "--days", "0"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"Not this project's to remove: {place / 'base'} (the first model)" in said
    assert not (runs[0] / "model").exists()
    assert (runs[1] / "model").is_dir()
    assert not list((project / "pictures").iterdir())
    assert (place / "base").is_dir()
    assert other.read_text() == "not the project's"
    for run in runs:
        assert (shown_in(run) == 128).all()
        assert "were purged from this run" in (run / "report.html").read_text()
    assert cli.run(["check", str(runs[1])]) == 0
    assert cli.run(["check", str(runs[0].parents[1])]) == 0
    signed = json.loads((runs[1] / "signature.json").read_text())["statement"]
    assert signed["facts"]["pictures_purged"]
    for version in ("0", "1"):
        assert cli.run(["request", "rollback", "--project", str(project), "--to", version]) == 1
    assert cli.run([*purge, "--days", "0"]) == 0  # once more finds nothing


@pytest.mark.usefixtures("everything_known")
def test_purge_signs_nothing_that_somebody_altered(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dataunlearn.requests.purging._is_known", lambda *_: False)
    assert add(place, "6.png") == 0
    assert apply(place, "--accept") in (0, 4, 5)
    run = place / "project" / "versions" / "0001"
    content = read_sealed(run / "report.json")
    content["verdict"]["text"] = "forged"
    write_sealed(run / "report.json", content)
    purge = ["request", "purge", "--project", str(place / "project"), "--days", "0"]
    ledger = (place / "project" / "ledger.sqlite").read_bytes()
    assert cli.run(purge) == 1
    assert (place / "project" / "ledger.sqlite").read_bytes() == ledger
    assert "is not as this project signed it" in " ".join(capsys.readouterr().err.split())
    assert cli.run(["check", str(run)]) == ALTERED
    assert cli.run([*purge[:-1], "-5"]) == 1


@pytest.mark.usefixtures("everything_known")
def test_purge_that_was_cut_off_is_completed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataunlearn.requests.purging._is_known", lambda *_: False)
    assert add(place, "6.png") == 0
    assert apply(place, "--accept") in (0, 4, 5)
    run = place / "project" / "versions" / "0001"
    purge = ["request", "purge", "--project", str(place / "project"), "--days", "0"]

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dataunlearn.requests.purging.sign_folder", cut)
        assert cli.run(purge) == 130
    assert cli.run(["check", str(run)]) == ALTERED
    assert cli.run(purge) == 0
    assert cli.run(["check", str(run)]) == 0
    assert (shown_in(run) == 128).all()
    assert not (run / ".redacted").exists()


@pytest.mark.usefixtures("everything_known")
def test_purge_redacts_versions_that_were_never_signed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataunlearn.requests.purging._is_known", lambda *_: False)
    monkeypatch.chdir(place)
    assert add(place, "6.png", "--copy") == 0

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dataunlearn.requests.making.Maker.verify", cut)
        assert apply(place) == 130
    assert apply(place, "--accept") == 1  # nobody has seen what it comes to
    assert apply(place, "--restart", "--accept") in (0, 4, 5)
    assert cli.run(["request", "purge", "--project", "project", "--days", "0"]) == 0
    assert (shown_in(place / "project" / "versions" / "0001") == 128).all()
    assert not list((place / "project" / "pictures").iterdir())  # given by a relative path


@pytest.mark.usefixtures("everything_known")
def test_restart_gives_up_only_for_a_run_that_can_begin(place: Path) -> None:
    assert add(place, "6.png") == 0
    with Ledger(place / "project") as ledger:
        ledger.begin([1], {"unlearning": UNLEARNING, "duplicates": [], "decision": "ask"})
    (place / "6.png").rename(place / "away.png")
    assert apply(place, "--restart") == 1
    with Ledger(place / "project") as ledger:
        assert ledger.begun is not None


def shown_in(run: Path) -> np.ndarray:
    with np.load(run / "images.npz") as images:
        return images["forget"]


@pytest.mark.slow
def test_kills_of_apply_leave_a_ledger_that_goes_on(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed at moments all over a run, the same command ends with the same model."""
    assert add(place, "6.png") == 0
    project = place / "project"
    command = [sys.executable, "-c", KNOWING, *apply_command(place), "--accept"]
    for seconds in (8, 10, 12, 14, 16):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with Ledger(project) as ledger:
            assert ledger.events
            if ledger.head.id:
                break
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode in (0, 4, 5), done.stderr
    with Ledger(project) as ledger:
        assert ledger.head.id == 1
        assert ledger.begun is None
        killed = ledger.head.weights_sha256
    assert cli.run(["check", str(project / "versions" / "0001")]) == 0
    (project / "versions" / "0001" / "report.html").write_text("another page")
    assert cli.run(["check", str(project / "versions" / "0001")]) == ALTERED
    project.rename(place / "killed")
    assert add(place, "6.png") == 0
    assert subprocess.run(command, check=False).returncode in (0, 4, 5)
    with Ledger(project) as ledger:
        assert ledger.head.weights_sha256 == killed


KNOWING = """
import sys
from dataunlearn.cli import main
from dataunlearn.requests.verifying import Verifier
Verifier.known_by = lambda *_, **__: "so"
sys.exit(main.run(sys.argv[1:]))
"""
