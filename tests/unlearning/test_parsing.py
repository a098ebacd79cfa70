from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from dataunlearn.cli import main as cli
from dataunlearn.metrics.catalogue import MEASURES
from dataunlearn.objectives import OBJECTIVES, SISS, Objective
from dataunlearn.unlearning.parsing import load_yaml, parse_unlearning, plain_types

NEEDED = ["--model", "m", "--forget", "f", "--keep", "k", "--out", "o"]


def message_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.run(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_missing_options_are_named_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    said = message_of(["unlearn", "--model", "m"], capsys)
    assert "error: missing: --forget, --keep, --out\n" in said
    assert "usage: dataunlearn unlearn --model MODEL" in said


def test_missing_positional_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "error: missing: RUN_DIR\n" in message_of(["report"], capsys)


def test_unknown_objective_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    said = message_of(["unlearn", *NEEDED, "--objective", "Foo"], capsys)
    assert "no objective 'Foo'" in said
    assert all(name in said for name in OBJECTIVES)


@pytest.mark.parametrize(
    ("option", "known"), [("combination", "BoundedDescent"), ("timesteps", "Window")]
)
def test_unknown_class_lists_the_others(
    option: str, known: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = message_of(["unlearn", *NEEDED, f"--{option}", "Foo"], capsys)
    assert f"no {option} 'Foo'" in said
    assert known in said


def test_wrong_value_names_option_and_types(capsys: pytest.CaptureFixture[str]) -> None:
    said = message_of(["unlearn", *NEEDED, "--steps", "many"], capsys)
    assert "--steps" in said
    assert "many" in said
    assert "<class" not in said


@pytest.mark.parametrize(
    ("verb", "typed", "meant"),
    [
        ("unlearn", "--batchpairs", "--batch_pairs"),
        ("unlearn", "--step", "--steps"),  # no shortened options
        ("unlearn", "--method", "--objective"),  # as other tools call it
        ("unlearn", "--train_batch_size", "--batch_pairs"),
        ("unlearn-prompts", "--epochs", "--unlearning.steps"),
        ("unlearn", "--stop.copees", "--stop.copies"),
        ("unlearn-prompts", "--lora.rank", "--unlearning.lora.rank"),
        ("unlearn-prompts", "--image_per_prompt", "--images_per_prompt"),
    ],
)
def test_unknown_option_names_the_nearest(
    verb: str, typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = NEEDED if verb == "unlearn" else ["--model", "m", "--prompts", "p", "--out", "o"]
    said = message_of([verb, *given, typed, "3"], capsys)
    assert f"error: no option {typed}; did you mean {meant}?\n" in said


def test_unknown_option_like_no_other_gets_no_guess(capsys: pytest.CaptureFixture[str]) -> None:
    assert "error: no option --qqqq\n" in message_of(["unlearn", *NEEDED, "--qqqq", "3"], capsys)


def test_unknown_key_of_a_file_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "settings.yaml"
    config.write_text("model: m\nforget: f\nkeep: k\nout: o\nbatchpairs: 3\n")
    said = message_of(["unlearn", "--config", str(config)], capsys)
    assert "error: no option --batchpairs; did you mean --batch_pairs?\n" in said


def test_one_value_for_a_list_says_how_lists_are_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    needed = ["evaluate", "--model", "m", "--metrics", "regeneration", "--out", "o"]
    said = message_of([*needed, "--regeneration.timesteps", "250,500"], capsys)
    assert "--regeneration.timesteps takes a list, such as '[250,500]'; got '250,500'" in said


@pytest.mark.parametrize("verb", sorted(cli.VERBS))
def test_help_has_plain_types(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run([verb, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "<class" not in shown
    assert "Unvalidated" not in shown


def test_plain_types() -> None:
    assert plain_types("<class 'pathlib.Path'> | <class 'NoneType'>") == "Path | null"
    assert plain_types("Unvalidated<list[int]>") == "list[int]"


def test_a_key_that_yaml_takes_for_a_truth_value_keeps_its_name() -> None:
    content = load_yaml("attack: {on: keep, off: [{on: image}]}\nforce: on\nnames: [true]\n")
    assert content == {
        "attack": {"on": "keep", "off": [{"on": "image"}]},
        "force": True,
        "names": [True],
    }


@pytest.mark.parametrize("given", ["-0.5", "[1]", "lam"])
@pytest.mark.parametrize("verb", ["unlearn", "bench"])
def test_settings_of_a_class_have_names(
    verb: str, given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = f"combination: {{class_path: NormFix, init_args: {given}}}"
    file = tmp_path / "settings.yaml"
    file.write_text(rule if verb == "unlearn" else f"methods: {{a: {{{rule}}}}}")
    said = message_of([verb, "--config", str(file), "--out", "o"], capsys)
    assert "init_args takes settings by their names, not " in said


@dataclass(frozen=True)
class OwnObjective(SISS):
    """A researcher's own, in a module that knows none of the names that SISS is typed with."""

    rounds: int = 3


@pytest.mark.parametrize("kind", [*OBJECTIVES.values(), OwnObjective])
def test_every_field_of_an_objective_has_its_type_checked(kind: type[Objective]) -> None:
    path = f"{kind.__module__}.{kind.__qualname__}"
    for field in fields(kind):  # type: ignore[arg-type]
        chosen = {"class_path": path, "init_args": {field.name: ["odd"]}}
        with pytest.raises(ValueError, match=field.name):
            parse_unlearning({"model": "m", "forget": "f", "keep": "k", "objective": chosen})


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_every_field_of_a_measure_has_its_type_checked(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model", "m", "--out", "o", "--forget", "f", "--keep", "k", "--metrics", name]
    for field in fields(MEASURES[name]):  # type: ignore[arg-type]
        if "str" in str(field.type):
            continue  # any text is one
        odd = f"--{name}.{field.name}={{odd: [1]}}"
        said = message_of(["evaluate", *given, odd], capsys)
        assert f"error: --{name}.{field.name} takes " in said
