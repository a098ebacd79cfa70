"""Whole runs on tiny models and on the shipped one, through Python and through the command."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import dataunlearn
from dataunlearn import SISS, NormFix
from dataunlearn.assets import asset
from dataunlearn.cli import main as cli
from dataunlearn.models import DiffusionModel, load_model, save_model
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.objectives import Counterfactual
from dataunlearn.process import ForwardProcess
from dataunlearn.runtime.exit_codes import UNLEARNED
from dataunlearn.unlearning import run
from dataunlearn.unlearning.config import Settings
from dataunlearn.unlearning.job import prepare_with
from dataunlearn.unlearning.method import StopRule
from dataunlearn.unlearning.preparing import looked_at
from dataunlearn.unlearning.quick_look import NotMemorisedError, require_memorised
from dataunlearn.unlearning.tracking import tracker_callback

QUICK = ["--evaluation.num-samples", "8", "--evaluation.regeneration-copies", "4"]
QUICK += ["--evaluation.sampling-steps", "3", "--evaluation.regeneration-steps", "3"]


@pytest.fixture
def inputs(tmp_path: Path, make_model: Callable[..., DiffusionModel]) -> dict[str, Path]:
    """A tiny model, an image to forget and some to keep, on disk."""
    save_model(make_model(), tmp_path / "base")
    generator = np.random.default_rng(0)
    (tmp_path / "keep").mkdir()
    for number in range(6):
        pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "keep" / f"{number}.png")
    pixels = generator.integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "forget.png")
    return {name: tmp_path / name for name in ("base", "keep", "forget.png", "out")}


def command(inputs: dict[str, Path], *more: str) -> list[str]:
    """An ``unlearn`` command on the tiny inputs."""
    needed = ["--model", str(inputs["base"]), "--forget", str(inputs["forget.png"])]
    needed += ["--keep", str(inputs["keep"]), "--out", str(inputs["out"]), "--device", "cpu"]
    return ["unlearn", *needed, "--steps", "4", "--batch-pairs", "4", "--force", *QUICK, *more]


def test_command_makes_model_report_and_log(inputs: dict[str, Path]) -> None:
    assert cli.run(command(inputs)) in UNLEARNED
    out = inputs["out"]
    facts = json.loads((out / "report.json").read_text())
    assert {"seconds", "unlearn_seconds", "before", "after"} <= facts.keys()
    assert set(facts["before"]["regeneration"]) == {"250", "500", "750", "999"}
    assert facts["method"]["objective"].startswith("Counterfactual(forget_share=0.5")
    assert facts["model"]["before"]["sha256"] != facts["model"]["after"]["sha256"]
    assert len((out / "log.jsonl").read_text().splitlines()) == 4
    file = hashlib.sha256(inputs["forget.png"].read_bytes()).hexdigest()
    assert facts["forget"]["file_sha256"] == [file]
    assert facts["forget"]["digests"] != [file]  # over the pixels
    assert file in (out / "report.html").read_text()
    assert (out / "report.html").stat().st_size > 10_000
    assert not (out / "checkpoints").exists()
    pipeline = DiffusionPipeline.from_pretrained(str(out / "model"))
    changed = load_model(out / "model")
    base = load_model(inputs["base"])
    drawing = Drawing(num_steps=2)
    assert not torch.equal(generate(changed, 2, drawing), generate(base, 2, drawing))
    assert type(pipeline).__name__ == "DDPMPipeline"


def test_python_and_command_give_the_same_model(inputs: dict[str, Path]) -> None:
    assert cli.run(command(inputs)) in UNLEARNED
    from_command = load_model(inputs["out"] / "model").denoiser.state_dict()
    result = dataunlearn.unlearn(
        str(inputs["base"]),
        forget=inputs["forget.png"],
        keep=inputs["keep"],
        steps=4,
        batch_pairs=4,
        force=True,
        shown=False,
    )
    for name, value in result.pipeline.unet.state_dict().items():
        assert torch.equal(value, from_command[f"unet.{name}"])
    assert result.before.numbers.keys() == result.after.numbers.keys()
    assert len(result.log) == 4


def test_images_in_memory(make_model: Callable[..., DiffusionModel]) -> None:
    generator = np.random.default_rng(1)
    result = dataunlearn.unlearn(
        make_model().pipeline,
        forget=generator.integers(0, 256, (8, 8), dtype=np.uint8),
        keep=generator.integers(0, 256, (10, 8, 8), dtype=np.uint8),
        objective=SISS(lam=0.5),
        combination=NormFix(ratio=0.3),
        steps=2,
        force=True,
        shown=False,
        evaluation=dataunlearn.Evaluation(num_samples=0, regeneration_copies=2),
    )
    assert "NormFix" in result.facts["method"]["combination"]


def test_counterfactual_targets(make_model: Callable[..., DiffusionModel]) -> None:
    """From views to the stop rule. A tiny untrained model recognises nothing, so both images are at
    their levels at the first look, and the rest of the steps settles."""
    generator = np.random.default_rng(1)
    result = dataunlearn.unlearn(
        make_model().pipeline,
        forget=generator.integers(0, 256, (2, 8, 8), dtype=np.uint8),
        keep=generator.integers(0, 256, (10, 8, 8), dtype=np.uint8),
        objective=Counterfactual(),
        steps=4,
        stop=StopRule(every_steps=2),
        force=True,
        shown=False,
        evaluation=dataunlearn.Evaluation(num_samples=0, regeneration_copies=2),
    )
    assert [record["rows"] for record in result.log] == [36] * 4
    assert result.log[1]["arrived"] == 2
    assert result.log[1]["of_level"] == pytest.approx(1.0, abs=0.1)
    assert result.facts["method"]["settled_after"] == 2
    assert result.facts["method"]["forgot_to_the_end"]
    assert result.facts["method"]["timesteps"] == "Uniform()"


def test_generated_keep_images(inputs: dict[str, Path]) -> None:
    assert cli.run(command(inputs, "--keep", "generated:6")) in UNLEARNED


def test_finished_run_is_refused_and_overwritten(
    inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(command(inputs)) in UNLEARNED
    kept = (inputs["out"] / "report.json").read_text()
    assert cli.run(command(inputs)) == 1
    assert "finished run" in capsys.readouterr().err
    assert (inputs["out"] / "report.json").read_text() == kept
    assert cli.run(command(inputs, "--overwrite", "--seed", "5")) in UNLEARNED
    assert json.loads((inputs["out"] / "report.json").read_text())["method"]["seed"] == 5


def test_nothing_to_forget_stops(
    inputs: dict[str, Path], make_model: Callable[..., DiffusionModel]
) -> None:
    with pytest.raises(NotMemorisedError, match="--force"):
        dataunlearn.unlearn(
            make_model().pipeline,
            forget=inputs["forget.png"],
            keep=inputs["keep"],
            out=inputs["out"],
            shown=False,
        )
    assert not inputs["out"].exists()


class Always(torch.nn.Module):
    """A denoiser that takes everything for one picture."""

    def __init__(self, picture: torch.Tensor, process: ForwardProcess) -> None:
        super().__init__()
        self.picture, self.process = torch.nn.Parameter(picture), process

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, cond: None) -> torch.Tensor:
        return self.process.target(noisy, self.picture.expand_as(noisy), t)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (0.05, "restores the forget images in 100%"),  # within a fifth of the median distance
        (0.6, "comes near the forget images, in 0% as near as what it knows by heart"),
    ],
)
def test_a_quick_look_tells_copies_from_what_only_comes_near(
    scale: float, message: str, make_model: Callable[..., DiffusionModel], inputs: dict[str, Path]
) -> None:
    """A denoiser that answers with one picture, more or less far from the forget image."""
    model = make_model()
    job = prepare_with(model, Settings(), str(inputs["forget.png"]), str(inputs["keep"]))
    other = job.split.keep.batch(torch.tensor([0]))
    answer = job.originals + scale * (other - job.originals)
    job.model.denoiser = Always(answer, job.model.process)
    said: list[str] = []
    require_memorised(looked_at(job, shown=False), said.append)
    assert message in said[-1]


def test_dry_run_writes_nothing(
    inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(command(inputs, "--dry-run")) == 0
    printed = capsys.readouterr().out
    for word in ("steps", "micro-batch", "memory", "s of training", "s of measuring", "parameters"):
        assert word in printed
    assert not inputs["out"].exists()


def test_a_dry_run_says_from_when_on_compiling_pays(
    inputs: dict[str, Path], capsys: pytest.CaptureFixture[str], programs_run: list[str]
) -> None:
    assert cli.run(command(inputs, "--dry-run", "--compile")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert programs_run
    assert re.search(r"s to compile(, which pays from [\d,]+ steps on|: leave out --compile)", said)
    assert not inputs["out"].exists()


def test_a_dry_run_of_a_huge_batch_is_told_from_a_small_one(
    inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    huge = ["--dry-run", "--batch-pairs", "1000000", "--objective", "NaiveDeletion"]
    assert cli.run(command(inputs, *huge)) == 0
    assert "1000000 rows forward and 1000000 backward a step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "missing"}, "does not exist"),
        ({"--forget": "missing.png"}, "missing.png"),
        ({"--keep": "empty"}, "empty"),
        ({"--keep": "wrong-size"}, "--resize"),
        ({"--keep": "torn"}, "torn.png"),
        ({"--keep": "coloured"}, "grey"),
        ({"--keep": "with-forget"}, "--drop-overlap"),
        ({"--model": "keep"}, "no diffusers model"),
        ({"--stop.timestep": "5000"}, "stop.timestep must lie from 0 to 999"),
        ({"--evaluation.regeneration-timesteps": "[5000]"}, "must lie from 0 to 999"),
    ],
)
def test_bad_input_is_named_before_any_work(
    change: dict[str, str],
    message: str,
    inputs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "wrong-size", "torn", "coloured", "with-forget"):
        Path(name).mkdir()
    Image.fromarray(np.zeros((9, 8), np.uint8)).save("wrong-size/a.png")
    whole = Path("forget.png").read_bytes()
    Path("torn/torn.png").write_bytes(whole[: len(whole) // 2])
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).save("coloured/a.png")
    Path("with-forget/same.png").write_bytes(whole)
    Path("with-forget/other.png").write_bytes(Path("keep/0.png").read_bytes())
    more = [part for item in change.items() for part in item]
    assert cli.run(command(inputs, *more)) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not inputs["out"].exists()


def test_full_disk_while_saving_loses_nothing(
    inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dataunlearn.unlearning.run.save_model", full)
        assert cli.run(command(inputs)) == 1
    assert "No space left" in capsys.readouterr().err
    assert list((inputs["out"] / "checkpoints").glob("step_*"))
    assert cli.run(command(inputs)) in UNLEARNED  # resumes at the last step and saves
    assert "going on from there" in capsys.readouterr().err
    assert (inputs["out"] / "model").is_dir()


def test_interrupt_saves_and_resumes(inputs: dict[str, Path]) -> None:
    """Ctrl-C in the middle: exit code 130, the way to go on is named, the resumed run ends."""
    arguments = command(inputs, "--steps", "150", "--checkpoint-every-steps", "1000")
    code = "from dataunlearn.cli.main import main; main()"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    log = inputs["out"] / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.is_file() and log.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Go on with the same command" in said
    done = len(log.read_text().splitlines())
    assert 0 < done < 150
    assert cli.run(arguments) in UNLEARNED
    assert len(log.read_text().splitlines()) == 150


@pytest.mark.parametrize("damaged", [False, True])
def test_a_run_that_goes_on_does_not_measure_the_model_before_again(
    inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    measured: list[str] = []
    measuring = run.measure

    def noted(*args: Any, **more: Any) -> Any:
        measured.append(more["label"])
        return measuring(*args, **more)

    def cut(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "measure", noted)
    whole = inputs["out"].with_name("whole")
    levels = ("--evaluation.regeneration_timesteps", "[750,250]")
    assert cli.run(command(inputs, *levels, "--out", str(whole))) in UNLEARNED
    with monkeypatch.context() as patch:
        patch.setattr(run, "_trained", cut)
        assert cli.run(command(inputs, *levels)) == 130
    kept = inputs["out"] / "checkpoints" / "before.safetensors"
    if damaged:
        content = kept.read_bytes()
        kept.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    measured.clear()
    assert cli.run(command(inputs, *levels)) in UNLEARNED
    assert measured == ["measuring before"] * damaged + ["measuring after"]
    assert not kept.exists()
    before, undisturbed = (
        json.loads((place / "report.json").read_text())["before"]
        for place in (inputs["out"], whole)
    )
    assert before == undisturbed
    assert list(before["regeneration"]) == ["750", "250"]
    assert (inputs["out"] / "images.npz").read_bytes() == (whole / "images.npz").read_bytes()


def test_demo_on_a_handful_of_steps(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    arguments = ["--steps", "2", "--num-samples", "20", "--regeneration-copies", "4"]
    assert cli.run(["demo", "--out", str(out), "--device", "cpu", *arguments]) in UNLEARNED
    facts = json.loads((out / "report.json").read_text())
    for side in ("before", "after"):
        assert {"regeneration", "tshirt_frequency", "inception_score", "broken_share"} <= facts[
            side
        ].keys()
    assert facts["before"]["regeneration"]["500"] >= 0.75  # 4 tries; about 1 on a whole run
    assert facts["settings"]["objective"] == {
        "class": "Counterfactual",
        "forget_share": 0.5,
        "arrived_weight": 0.5,
        "overshoot": 0.6,
    }
    beside = json.loads((out / "siss" / "report.json").read_text())
    assert beside["settings"]["objective"]["class"] == "SISS"
    assert beside["before"]["inception_score"] == facts["before"]["inception_score"]
    assert "removed otherwise" in (out / "report.html").read_text()


def test_sample_and_report_verbs(tmp_path: Path, inputs: dict[str, Path]) -> None:
    grid = tmp_path / "grid.png"
    arguments = ["--model", str(inputs["base"]), "--num-samples", "4", "--num-steps", "2"]
    assert cli.run(["sample", *arguments, "--out", str(grid), "--device", "cpu"]) == 0
    assert Image.open(grid).size[0] > 8
    assert cli.run(["sample", *arguments, "--out", str(tmp_path / "grid.txt")]) == 1
    assert cli.run(command(inputs)) in UNLEARNED
    page = inputs["out"] / "report.html"
    page.unlink()
    assert cli.run(["report", str(inputs["out"])]) == 0
    assert page.is_file()


def test_two_processes_run_the_command(inputs: dict[str, Path]) -> None:
    """Both train; the main one measures and writes; the model is one process's up to rounding.

    AdamW turns gradients that are zero but for rounding into full steps, so a weight may differ by
    the four steps at the model's learning rate of 1e-4, twice.
    """
    assert cli.run(command(inputs)) in UNLEARNED
    one = load_model(inputs["out"] / "model").denoiser.state_dict()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2", "-m", "dataunlearn"]
    two_out = inputs["out"].with_name("two")
    done = subprocess.run(
        [*launcher, *command(inputs, "--out", str(two_out))],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (two_out / "report.html").is_file(), done.stderr[-3000:]
    assert len((two_out / "log.jsonl").read_text().splitlines()) == 4
    for name, value in load_model(two_out / "model").denoiser.state_dict().items():
        torch.testing.assert_close(value, one[name], rtol=0, atol=8e-4)
        assert (value - one[name]).abs().mean() < 1e-5


class Recorder:
    """Stands in for accelerate's tracking."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.logged.append((step, numbers))


def test_trackers_get_every_number_of_a_step() -> None:
    class FakeTrainer:
        record: ClassVar = {
            "step": 3,
            "loss_keep": 1.5,
            "ess_keep": {"0-99": 1.0},
            "cosine": None,
            "restored": 0.25,
        }

    recorder = Recorder()
    assert tracker_callback(recorder)(FakeTrainer, 3) is False  # type: ignore[arg-type]
    assert recorder.logged == [(3, {"loss_keep": 1.5, "restored": 0.25})]


def test_missing_tracker_is_an_error(
    inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(command(inputs, "--tracker", "nonsense")) == 1
    assert "dataunlearn[trackers]" in " ".join(capsys.readouterr().err.split())


def test_reference_model_and_its_measurements(
    inputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A reference is measured beside the others; the JSON of its numbers serves as well."""
    assert cli.run(command(inputs, "--reference", str(inputs["base"]))) in UNLEARNED
    facts = json.loads((inputs["out"] / "report.json").read_text())
    found = facts["reference"]
    assert found.pop("label") == "a model that never saw it"
    assert found == facts["before"]  # the same model, the same seeds
    numbers = inputs["out"].with_name("numbers.json")
    numbers.write_text(json.dumps(found))
    assert cli.run(command(inputs, "--reference", str(numbers), "--overwrite")) in UNLEARNED
    assert json.loads((inputs["out"] / "report.json").read_text())["reference"]["regeneration"]
    assert "never saw it" in (inputs["out"] / "report.html").read_text()
    numbers.write_text(json.dumps({**found, "evaluation": {"num_samples": 7}}))
    assert cli.run(command(inputs, "--reference", str(numbers), "--overwrite")) in UNLEARNED
    facts = json.loads((inputs["out"] / "report.json").read_text())
    assert facts["reference"]["label"] == "a model that never saw it, measured with other settings"
    numbers.write_text("{}")
    assert cli.run(command(inputs, "--reference", str(numbers), "--overwrite")) == 1
    assert "lacks regeneration" in " ".join(capsys.readouterr().err.split())


def test_a_run_without_samples_reports_what_there_is(inputs: dict[str, Path]) -> None:
    assert cli.run(command(inputs, "--evaluation.num_samples", "0")) in UNLEARNED
    page = (inputs["out"] / "report.html").read_text()
    assert "0 samples say nothing about quality" in page
    assert "Picture quality was not measured" not in page
    assert "What the model drew before" not in page


def test_average_of_the_weights_becomes_the_result(inputs: dict[str, Path]) -> None:
    """An average over four steps lies between the first weights and the last."""
    assert cli.run(command(inputs)) in UNLEARNED
    last = load_model(inputs["out"] / "model").denoiser.state_dict()
    assert cli.run(command(inputs, "--ema.max-decay", "0.9", "--overwrite")) in UNLEARNED
    averaged = load_model(inputs["out"] / "model").denoiser.state_dict()
    base = load_model(inputs["base"]).denoiser.state_dict()

    def moved(weights: dict[str, torch.Tensor]) -> float:
        return sum(float((weights[name] - base[name]).abs().sum()) for name in base)

    assert 0 < moved(averaged) < moved(last)


def test_stop_rule_ends_early(inputs: dict[str, Path]) -> None:
    """A tiny untrained model never restores the image, so the first look stops the forgetting.

    A method that ascends settles on the keep images alone.
    """
    arguments = ["--objective", "SISS", "--stop.every-steps", "2", "--stop.copies", "2"]
    assert cli.run(command(inputs, *arguments, "--stop.then", "end")) in UNLEARNED
    assert len((inputs["out"] / "log.jsonl").read_text().splitlines()) == 2
    assert cli.run(command(inputs, *arguments, "--overwrite")) in UNLEARNED
    records = [json.loads(line) for line in (inputs["out"] / "log.jsonl").open()]
    forgets = [record["loss_forget"] > 0 for record in records]
    assert forgets[:4] == [True, True, False, False]
    facts = json.loads((inputs["out"] / "report.json").read_text())
    assert facts["method"]["settled_after"] == 2


def test_shipped_model_is_small_and_plain() -> None:
    folder = asset("mnist_tshirt_small")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size < 4_000_000
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pkl", ".pt")]
    assert (folder / "README.md").is_file()
