"""Settings that cannot be: one line that names the setting and what it takes, soon."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from PIL import Image

from dataunlearn.cli import main as cli

UNLEARN = ["unlearn", "--model", "m", "--forget", "f", "--keep", "k", "--out", "o"]
EVALUATE = ["evaluate", "--model", "m", "--out", "o", "--metrics", "membership"]
SAMPLE = ["sample", "--model", "m", "--out", "o.png"]
LONG = "a" * 100_000
LAUGHS = "a0: &a0 [lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command that ends with an error says, without how to call it."""
    started = time.process_time()
    try:
        assert cli.run(arguments) == 1
    except SystemExit as stop:
        assert stop.code == 2
    assert time.process_time() - started < 10  # most of it is loading torch
    message = capsys.readouterr().err.partition("error: ")[2].strip()
    assert message
    assert len(message) < 1000
    return message


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*UNLEARN, "--steps", "0"], "steps must be at least 1"),
        ([*UNLEARN, "--seed", "-1"], "seed must be at least 0, not -1"),
        ([*UNLEARN, "--evaluation.seed", "-1"], "evaluation.seed must be at least 0"),
        ([*UNLEARN, "--learning_rate", "-1e-5"], "learning_rate must be above 0, not -1e-05"),
        ([*UNLEARN, "--learning_rate", "nan"], "--learning_rate takes float or null, not nan"),
        ([*UNLEARN, "--image_size", "-8"], "image_size must be at least 1, not -8"),
        ([*UNLEARN, "--lora.rank", "0"], "lora.rank must be at least 1, not 0"),
        ([*UNLEARN, "--device", "cuda:0"], "takes cpu, cuda, mps or null, not cuda:0; CUDA_VIS"),
        ([*UNLEARN, "--strength", "weak"], "--strength takes gentle or default or strong, not w"),
        ([*UNLEARN, "--seed", LONG], "--seed takes int, not aaa"),
        ([*UNLEARN, "--objective", LONG], "--objective"),
        ([*UNLEARN, "--steps", "1" * 100_000], "--steps: Exceeds the limit"),
        ([*UNLEARN, f"--{LONG}", "1"], "no option --aaa"),
        ([*UNLEARN, "--stop", "[" * 100_000], "stop"),
        ([*EVALUATE, "--membership.num_draws", "0"], "num_draws must be at least 1, not 0"),
        ([*EVALUATE, "--membership.timesteps", "[-1]"], "timesteps must be at least 0"),
        ([*SAMPLE, "--batch_size", "0"], "batch_size must be at least 1, not 0"),
        ([*SAMPLE, "--columns", "0"], "columns must be at least 1, not 0"),
        ([*SAMPLE, "--seed", "-1"], "seed must be at least 0, not -1"),
        ([*SAMPLE, "--num_samples", str(10**12)], "num_samples must be at most 100000"),
        (["sample", "--model", "a/" * 50_000, "--out", "o.png"], "File name too long"),
    ],
)
def test_options(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in said(arguments, capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stop: -1", "stop has settings of its own, such as stop.every_steps; it cannot be -1"),
        ("stop: null", "stop has settings of its own"),
        ("evaluation: [1]", "evaluation"),
        ("objective: null", "objective has settings of its own"),
        ("betas: null", "betas must not be null: leave it out for its default"),
        ("seed: null", "seed must not be null"),
        (f"seed: {LONG}", "--seed takes int, not aaa"),
        (f"stop: {'[' * 100_000}", "exceeded maximum nesting depth"),
        (f"stop: {'[' * 900}{']' * 900}", "nested more than 100 levels deep"),
        (LAUGHS, "its aliases stand for 123456789012 entries"),
        ("stop: &a [*a]", "an alias holds itself"),
        ("seed: 1\nsteps: 2\nseed: 3", "line 7: 'seed' is given twice"),
    ],
)
def test_yaml_files(
    text: str, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "c.yaml").write_text(f"model: m\nforget: f\nkeep: k\nout: o\n{text}\n")
    found = said(["unlearn", "--config", "c.yaml"], capsys)
    assert re.sub(r"\d{12}", "123456789012", message) in re.sub(r"\d{12}", "123456789012", found)


def test_null_stays_where_it_means_something(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build, _, summary = cli.VERBS["unlearn"]
    monkeypatch.setitem(cli.VERBS, "unlearn", (build, lambda **settings: 0, summary))  # type: ignore[arg-type]
    (here / "c.yaml").write_text(
        "model: m\nforget: f\nkeep: k\nout: o\nsteps: null\ncombination: null\nlora: null\n"
        "ema: null\nbudget: null\nstop: {once: null}\ndevice: null\n"
    )
    assert cli.run(["unlearn", "--config", "c.yaml", "--stop.regeneration_below", "null"]) == 0


def test_a_picture_is_not_replaced_unasked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (2, 2)).save(here / "o.png")
    assert "o.png is there: give --overwrite to replace it" in said(SAMPLE, capsys)
    assert "m does not exist" in said([*SAMPLE, "--overwrite"], capsys)


def test_control_characters_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (
        ["sample", "--model", "no\x1b[31m\x07", "--out", "o.png"],
        [*UNLEARN, "--seed", "\x1b[31m\x07"],
    ):
        message = said(arguments, capsys)
        assert "\\x1b[31m\\x07" in message
        assert "\x1b" not in message
