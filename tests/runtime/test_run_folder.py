from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from dataunlearn.objectives import SISS, SISSNoIS
from dataunlearn.runtime.run_folder import (
    RunState,
    check_run_dir,
    claim_run_dir,
    describe,
    differences,
    finish_run_dir,
)
from dataunlearn.training.config import Ema, Training

TRAINING = Training(steps=5, batch_pairs=2, learning_rate=1e-3)


@dataclass(frozen=True)
class Settings:
    objective: object = SISS()
    training: Training = TRAINING
    data: Path = Path("pictures")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestClaim:
    def test_new_and_empty_folders_are_taken(self, tmp_path: Path) -> None:
        assert claim_run_dir(tmp_path / "deep" / "new", Settings()) is RunState.NEW
        (tmp_path / "empty").mkdir()
        assert claim_run_dir(tmp_path / "empty", Settings()) is RunState.NEW
        assert files(tmp_path / "empty") == ["settings.json"]

    def test_same_settings_resume(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        claim_run_dir(out, Settings())
        (out / "checkpoints").mkdir()
        assert claim_run_dir(out, Settings()) is RunState.UNFINISHED
        assert files(out) == ["checkpoints", "settings.json"]

    def test_finished_run_is_refused(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        claim_run_dir(out, Settings())
        (out / "checkpoints").mkdir()
        finish_run_dir(out)
        assert files(out) == ["finished", "settings.json"]
        with pytest.raises(ValueError, match=r"finished run.*--overwrite"):
            claim_run_dir(out, Settings())

    def test_finishing_twice_or_without_checkpoints_is_harmless(self, tmp_path: Path) -> None:
        claim_run_dir(tmp_path / "run", Settings())
        finish_run_dir(tmp_path / "run")
        finish_run_dir(tmp_path / "run")

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            (
                Settings(training=Training(steps=6, batch_pairs=2, learning_rate=1e-3)),
                r"training\.steps: 5 -> 6",
            ),
            (Settings(objective=SISS(lam=0.25)), r"objective\.lam: 0\.5 -> 0\.25"),
            (Settings(objective=SISSNoIS()), r"objective\.class: SISS -> SISSNoIS"),
            (
                Settings(training=Training(5, 2, 1e-3, ema=Ema(max_decay=0.5))),
                r"training\.ema: None -> ",
            ),
        ],
    )
    def test_other_settings_are_an_error_that_names_them(
        self, tmp_path: Path, changed: Settings, named: str
    ) -> None:
        out = tmp_path / "run"
        claim_run_dir(out, Settings())
        (out / "log.jsonl").write_text("a step")
        before = (out / "settings.json").read_text()
        with pytest.raises(ValueError, match=named):
            claim_run_dir(out, changed)
        assert (out / "settings.json").read_text() == before

    def test_a_run_that_has_written_nothing_gives_way_to_other_settings(
        self, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        claim_run_dir(out, Settings())
        assert claim_run_dir(out, Settings(objective=SISSNoIS())) is RunState.NEW
        (out / "log.jsonl").write_text("a step")
        assert claim_run_dir(out, Settings(objective=SISSNoIS())) is RunState.UNFINISHED

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_foreign_files_are_never_touched(self, tmp_path: Path, overwrite: bool) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(ValueError, match="files that are not a run's"):
            claim_run_dir(tmp_path, Settings(), overwrite=overwrite)
        assert files(tmp_path) == ["thesis.tex"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_file_is_no_folder(self, tmp_path: Path, overwrite: bool) -> None:
        path = tmp_path / "thesis.tex"
        path.write_text("years of work")
        with pytest.raises(ValueError, match="is a file"):
            claim_run_dir(path, Settings(), overwrite=overwrite)
        assert path.read_text() == "years of work"

    @pytest.mark.parametrize("finished", [False, True])
    def test_overwrite_starts_anew(self, tmp_path: Path, finished: bool) -> None:
        out = tmp_path / "run"
        claim_run_dir(out, Settings())
        (out / "checkpoints").mkdir()
        (out / "log.jsonl").write_text("old")
        if finished:
            finish_run_dir(out)
        other = Settings(objective=SISSNoIS())
        assert claim_run_dir(out, other, overwrite=True) is RunState.NEW
        assert files(out) == ["settings.json"]
        assert json.loads((out / "settings.json").read_text()) == describe(other)

    def test_overwrite_of_nothing_is_a_new_run(self, tmp_path: Path) -> None:
        assert claim_run_dir(tmp_path / "run", Settings(), overwrite=True) is RunState.NEW


class TestCheck:
    def test_usable_folders_pass_and_stay_as_they_are(self, tmp_path: Path) -> None:
        for overwrite in (False, True):
            check_run_dir(tmp_path / "new", overwrite=overwrite)
            assert not (tmp_path / "new").exists()
        (tmp_path / "empty").mkdir()
        check_run_dir(tmp_path / "empty")
        claim_run_dir(tmp_path / "run", Settings())
        (tmp_path / "run" / "log.jsonl").touch()
        check_run_dir(tmp_path / "run")
        finish_run_dir(tmp_path / "run")
        check_run_dir(tmp_path / "run", overwrite=True)
        with pytest.raises(ValueError, match="finished run"):
            check_run_dir(tmp_path / "run")
        assert files(tmp_path / "run") == ["finished", "log.jsonl", "settings.json"]


class TestDescribe:
    def test_survives_json(self) -> None:
        settings = Settings(training=Training(5, 2, 1e-3, ema=Ema()))
        described = describe(settings)
        assert json.loads(json.dumps(described)) == described
        assert described["objective"] == {
            "class": "SISS",
            "lam": 0.5,
            "conditioning": "equal",
            "ceiling": False,
        }
        assert described["training"]["betas"] == [0.95, 0.999]
        assert described["training"]["ema"]["class"] == "Ema"
        assert described["data"] == "pictures"
        names = {field.name for field in dataclasses.fields(Training)}
        assert described["training"].keys() == names | {"class"}

    def test_a_class_is_not_an_instance(self) -> None:
        assert describe(SISS) == str(SISS)

    def test_differences(self) -> None:
        old = {"a": 1, "b": {"c": [1, 2], "gone": 3}}
        new = {"a": 1, "b": {"c": [1, 3]}, "fresh": True}
        assert differences(old, new) == [
            "b.c: [1, 2] -> [1, 3]",
            "b.gone: 3 -> None",
            "fresh: None -> True",
        ]
        assert differences(old, old) == []
