"""``~`` is the home folder in every path, whatever gave it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataunlearn.cli import main as cli


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    return home


def settings_of(monkeypatch: pytest.MonkeyPatch, verb: str, *arguments: str) -> dict[str, Any]:
    """What a verb is called with."""
    found: dict[str, Any] = {}

    def remember(**settings: Any) -> int:
        found.update(settings)
        return 0

    build, _, summary = cli.VERBS[verb]
    monkeypatch.setitem(cli.VERBS, verb, (build, remember, summary))  # type: ignore[arg-type]
    assert cli.run([verb, *arguments]) == 0
    return found


def test_options_with_and_without_equals(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(
        monkeypatch,
        "unlearn",
        *("--model", "~/m", "--forget=~/f.npz:x[3]", "--keep", "~/k#train", "--out=~/run"),
        *("--scheduler=~/s", "--reference", "~/r"),
    )
    wanted = {"model": "m", "forget": "f.npz:x[3]", "keep": "k#train", "scheduler": "s"}
    assert {name: found[name] for name in wanted} == {n: f"{home}/{v}" for n, v in wanted.items()}
    assert found["out"] == home / "run"
    assert found["reference"] == f"{home}/r"


def test_a_yaml_file_and_what_is_nested_in_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "b.yaml").write_text(
        "out: ~/bench\nreference: ~/r\nbase: {model: ~/m, forget: ~/f, keep: ~/k}\n"
        "methods: {siss: {objective: SISS}}\nseeds: [0]\n"
    )
    found = settings_of(monkeypatch, "bench", "--config=~/b.yaml")
    assert found["out"] == home / "bench"
    assert found["base"]["keep"] == f"{home}/k"
    found = settings_of(
        monkeypatch,
        "unlearn-prompts",
        *("--model", "~/m", "--prompts=~/p.txt", "--out", "~/run", "--prior=~/q.txt"),
        *("--unlearning", '{"reference": "~/r"}'),
    )
    assert (found["prompts"], found["prior"]) == (home / "p.txt", home / "q.txt")
    assert found["unlearning"]["reference"] == f"{home}/r"


def test_no_folder_is_named_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt may begin with the sign; a folder of nobody is an error."""
    common = ["--model", str(home / "none"), "--out"]
    assert cli.run(["sample", *common, "~nobody-here/x.png"]) == 1
    assert "nobody called 'nobody-here'" in capsys.readouterr().err
    assert cli.run(["sample", *common, "~/x.png", "--prompts", "~ a tilde ~"]) == 1
    assert f"{home}/none does not exist" in capsys.readouterr().err
    assert not list(Path.cwd().iterdir())
