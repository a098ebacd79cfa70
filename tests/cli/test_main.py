from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from dataunlearn.assets import asset
from dataunlearn.cli import main as cli
from dataunlearn.cli import runs
from dataunlearn.combine import BalancedDescent, BoundedDescent, Fixed, NormFix, Superfactor
from dataunlearn.models.lora import Lora
from dataunlearn.objectives import OBJECTIVES, SISS, Counterfactual
from dataunlearn.recipes import UNLEARNING_RECIPES
from dataunlearn.runtime.interrupt import InterruptedRunError
from dataunlearn.timesteps import Last, Window
from dataunlearn.training.config import default_learning_rate
from dataunlearn.unlearning.config import Unlearning
from dataunlearn.unlearning.method import DIALS, StopRule, Strength
from tiny_pipelines import stable_diffusion

NEEDED = ["--model", "m", "--forget", "f", "--keep", "k", "--out", "o"]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command hands to ``unlearned``, or shows the plan of, in place of running it."""
    calls: list[dict[str, Any]] = []

    for name, is_plan in (("unlearned", False), ("show_plan", True)):

        def record(config: Unlearning, *, is_plan: bool = is_plan, **rest: Any) -> None:
            calls.append({"config": config, "dry_run": is_plan, **rest})

        monkeypatch.setattr(runs, name, record)
    return calls


def unlearn(*arguments: str) -> int:
    return cli.run(["unlearn", *NEEDED, *arguments])


def test_the_command_to_go_on_with_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(config: Unlearning, **rest: Any) -> None:
        raise InterruptedRunError(3, Path("o"))

    monkeypatch.setattr(runs, "unlearned", interrupted)
    arguments = ["--lora", '{"rank": 4}', "--forget", "a[3].npz"]
    assert unlearn(*arguments) == cli.INTERRUPTED
    pasted = capsys.readouterr().err.split("same command: ")[1]
    assert shlex.split(pasted) == ["dataunlearn", "unlearn", *NEEDED, *arguments]


def test_running_out_of_memory_is_told_and_an_error_of_ours_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(config: Unlearning, **rest: Any) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(runs, "unlearned", fails)
    words = (
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: 8000 bytes\nException raised"
    )
    assert cli.run(["unlearn", *NEEDED]) == 1
    said = capsys.readouterr()
    assert "out of memory" in said.out + said.err
    assert "--batch_size" in said.out + said.err
    words = "shapes do not match"
    with pytest.raises(RuntimeError, match="shapes"):
        cli.run(["unlearn", *NEEDED])


def test_train_asks_for_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--out", "o"]) == 1
    assert "give --recipe NAME; there are mnist_tshirt" in capsys.readouterr().err


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_method_is_built_by_its_name(name: str, built: list[dict[str, Any]]) -> None:
    assert unlearn("--objective", name) == 0
    config = built[0]["config"]
    assert type(config.objective) is OBJECTIVES[name]
    assert config.rule == OBJECTIVES[name]().default_combination


@pytest.mark.parametrize("name", ["SISS", "BernoulliSubscore"])
def test_hyper_parameters_reach_the_objective(name: str, built: list[dict[str, Any]]) -> None:
    assert unlearn("--objective", name, "--objective.lam", "0.25") == 0
    assert built[0]["config"].objective == OBJECTIVES[name](lam=0.25)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--combination", "NormFix", "--combination.norm", "5"], NormFix(norm=5)),
        (["--combination", "Superfactor", "--combination.s", "2"], Superfactor(s=2)),
        (
            ["--combination", "Fixed", "--combination.keep", "1", "--combination.forget=-0.5"],
            Fixed(1, -0.5),
        ),
    ],
)
def test_rules_are_built(arguments: list[str], rule: object, built: list[dict[str, Any]]) -> None:
    assert unlearn("--objective", "SISS", *arguments) == 0
    assert built[0]["config"].rule == rule


def test_timesteps_and_flags(built: list[dict[str, Any]]) -> None:
    assert unlearn("--timesteps", "Last", "--drop-overlap", "--dry-run", "--force") == 0
    config = built[0]["config"]
    assert config.timesteps == Last()
    assert config.drop_overlap and config.force
    assert built[0]["dry_run"] is True and built[0]["overwrite"] is False
    arguments = ["--timesteps", "Window", "--timesteps.lo", "2", "--timesteps.hi", "9"]
    assert unlearn(*arguments, "--resize=false") == 0
    assert built[1]["config"].timesteps == Window(2, 9)
    assert not built[1]["config"].resize


def test_config_file_and_override(tmp_path: Path, built: list[dict[str, Any]]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "model: m\nforget: f\nkeep: k\nout: o\nsteps: 7\nobjective:\n"
        "  class_path: EraseDiff\ncombination:\n  class_path: BoundedDescent\n"
        "  init_args:\n    eta: 0.5\n"
    )
    assert cli.run(["unlearn", "--config", str(file), "--seed", "3"]) == 0
    config = built[0]["config"]
    assert (config.steps, config.seed, config.rule) == (7, 3, BoundedDescent(0.5))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("stepps: 7", "stepps"), ("steps: many", "steps"), ("objective: Magic", "Magic")],
)
def test_bad_config_files_are_refused(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"{text}\n")
    with pytest.raises(SystemExit) as stop:
        unlearn("--config", str(file))
    assert stop.value.code == 2
    assert expected in capsys.readouterr().err


def test_print_config_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        unlearn("--print-config")
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for field in dataclasses.fields(Unlearning):
        assert f"{field.name}:" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "SISS", "--objective.lam", "1.5"], "from 0 to 1"),
        (
            ["--objective", "NegGrad", "--combination", "NormFix", "--combination.ratio", "0.1"],
            "does not fit",
        ),
        (["--steps", "0"], "steps must be at least 1"),
        (["--learning-rate=-1"], "learning_rate"),
        (["--keep", "f"], "are the same"),
        (["--keep-from", "all", "--drop-overlap"], "contradict"),
        (["--device", "cuda"], "no device"),
    ],
)
def test_senseless_settings_end_with_a_message(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert unlearn(*arguments) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_unknown_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "--recipe", "nope", "--out", "x"]) == 1
    assert "mnist_tshirt_small" in capsys.readouterr().err


def test_recipe_gives_defaults_that_can_be_overridden(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(config: Any, out: Path, **rest: Any) -> Path:
        seen["config"] = config
        return out

    monkeypatch.setattr("dataunlearn.base_models.pixel.train_base", record)
    arguments = ["train", "--recipe", "mnist_tshirt_small", "--out", "x", "--training.steps", "300"]
    assert cli.run([*arguments, "--without", "tshirt.png"]) == 0
    config = seen["config"]
    assert config.training.steps == 300
    assert config.training.ema is not None and config.training.ema.max_decay == 0.999
    assert config.without == "tshirt.png"
    assert config.planted_copies == 606


def test_strength_turns_the_dial() -> None:
    for strength, dial in DIALS.items():
        config = Unlearning("m", "f", "k", Path("o"), strength=strength, objective=SISS())
        training = config.training(1_500_000, num_images=8)
        assert training.steps == dial.steps
        assert config.rule == NormFix(ratio=dial.ratio)
        assert training.learning_rate == pytest.approx(1e-4 * dial.rate_factor)
    by_hand = Unlearning("m", "f", "k", Path("o"), strength="strong", steps=3, learning_rate=1e-5)
    adapter = Unlearning("m", "f", "k", Path("o"), lora=Lora())
    assert adapter.training(1_500_000).learning_rate == pytest.approx(2e-3)
    assert by_hand.training(10**8).steps == 3
    assert by_hand.training(10**8).learning_rate == 1e-5


@pytest.mark.parametrize(
    ("strength", "steps", "ratio"),
    [("gentle", 125, 0.25), ("default", 189, 0.5), ("strong", 350, 1)],
)
def test_methods_with_an_aim_take_steps_by_the_number_of_images(
    strength: Strength, steps: int, ratio: float
) -> None:
    """By hand, for 8 images, which is three times double: 80 + 45, 120 + 69 and 200 + 150 steps."""
    config = Unlearning("m", "f", "k", Path("o"), strength=strength)
    assert config.training(1_500_000, num_images=8).steps == steps
    assert config.training(1_500_000, num_images=8).warmup_steps == steps // 10
    assert config.training(1_500_000, num_images=8).decay_after == round(0.75 * steps)
    ends = dataclasses.replace(config, stop=StopRule(then="end"))
    assert ends.training(1_500_000).decay_after == 0
    assert config.training(1_500_000).steps == DIALS[strength].aimed_steps[0]
    assert config.rule == BalancedDescent(ratio=ratio)
    assert config.rule_for(3) == BalancedDescent(ratio=3 * ratio)
    assert config.rule_for(500) == BalancedDescent(ratio=8 * ratio)
    assert dataclasses.replace(config, combination=BalancedDescent(1)).rule_for(9).ratio == 1
    assert dataclasses.replace(config, combination=Fixed(1, 1)).rule == Fixed(1, 1)
    assert dataclasses.replace(config, steps=7).training(1_500_000, num_images=8).steps == 7


def test_default_rate_passes_near_the_published_ones() -> None:
    assert default_learning_rate(1_500_000) == pytest.approx(1e-4)
    assert 2.5e-5 < default_learning_rate(14_700_000) < 1e-4  # published: 5e-5
    assert 2.5e-6 < default_learning_rate(114_000_000) < 1e-5  # published: 5e-6


def test_default_objective_is_counterfactual() -> None:
    assert Unlearning("m", "f", "k", Path("o")).objective == Counterfactual()


@pytest.mark.parametrize("name", UNLEARNING_RECIPES)
def test_unlearning_recipes_are_what_the_command_builds(
    name: str, built: list[dict[str, Any]]
) -> None:
    """``--recipe`` gives the function's configuration; options still override it."""
    command = ["unlearn", "--recipe", name, "--forget", "f", "--keep", "k", "--out", "run"]
    assert cli.run(command) == 0
    assert cli.run([*command, "--steps", "7"]) == 0
    expected = dataclasses.replace(UNLEARNING_RECIPES[name](), forget="f", keep="k")
    assert built[0]["config"] == expected
    assert built[1]["config"] == dataclasses.replace(expected, steps=7)


def test_sampling_a_text_to_image_model_takes_one_prompt_or_a_file(tmp_path: Path) -> None:
    stable_diffusion().save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("red\nblue\n")
    command = ["sample", "--model", str(tmp_path / "model"), "--num_samples", "2"]
    command += ["--num_steps", "1", "--guidance", "2"]
    grids = []
    for prompts in ("red", str(tmp_path / "prompts.txt")):
        out = tmp_path / f"{len(grids)}.png"
        assert cli.run([*command, "--out", str(out), "--prompts", prompts]) == 0
        grids.append(out.read_bytes())
    assert grids[0] != grids[1]


def test_guidance_is_for_text_to_image_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(asset("mnist_tshirt_small"))
    command = ["sample", "--model", model, "--out", str(tmp_path / "x.png"), "--guidance", "2"]
    assert cli.run(command) == 1
    assert "--guidance is for text-to-image models" in capsys.readouterr().err


def test_evaluating_prompts(tmp_path: Path) -> None:
    stable_diffusion().save_pretrained(tmp_path / "model")
    out = tmp_path / "measured"
    command = ["evaluate", "--model", str(tmp_path / "model"), "--out", str(out)]
    command += ["--metrics", "text_noise", "--prompts", "red", "--text_noise.num_steps", "2"]
    assert cli.run(command) == 0
    content = json.loads((out / "results.json").read_text())
    assert content["inputs"]["prompts"] == ["red"]
    assert content["inputs"]["guidance"] == 7.5
