from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataunlearn.objectives import SISS, SISSNoIS
from dataunlearn.runtime.own_files import REPLACEMENT
from dataunlearn.runtime.run_folder import RunState, check_run_dir, run_folder
from dataunlearn.runtime.sealed import DamagedFileError, DamagedFileWarning, sealed
from dataunlearn.runtime.settings import describe
from dataunlearn.training.config import Ema, Training

TRAINING = Training(steps=5, batch_pairs=2, learning_rate=1e-3)


@dataclass(frozen=True)
class Settings:
    objective: object = SISS()
    training: Training = TRAINING
    data: Path = Path("pictures")


OTHER = Settings(objective=SISSNoIS())


def claim(out: Path, settings: Any = None, **options: Any) -> RunState:
    """Hold a folder for a moment."""
    with run_folder(out, Settings() if settings is None else settings, **options) as run:
        return run.state


def finished(out: Path, **contents: str) -> Path:
    """A finished run that wrote a log, and a model of one file."""
    with run_folder(out, Settings()) as run:
        (out / "model").mkdir()
        (out / "model" / "weights").write_text(contents.get("model", "old"))
        (out / "log.jsonl").write_text("old")
        run.finish()
    return out


def files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(found)


class TestClaim:
    def test_new_and_empty_folders_are_taken(self, tmp_path: Path) -> None:
        assert claim(tmp_path / "deep" / "new") is RunState.NEW
        (tmp_path / "empty").mkdir()
        assert claim(tmp_path / "empty") is RunState.NEW
        assert files(tmp_path / "empty") == ["settings.json"]

    def test_same_settings_resume(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        claim(out)
        (out / "checkpoints").mkdir()
        assert claim(out) is RunState.UNFINISHED
        assert files(out) == ["settings.json"]

    def test_checkpoints_that_a_kill_left_go(self, tmp_path: Path) -> None:
        """Between the last two acts of a run, the mark and their removal, there is a moment."""
        out = tmp_path / "run"
        with run_folder(out, {"a": 1}) as run:
            run.finish()
        (out / "checkpoints" / "step_00000003").mkdir(parents=True)
        (out / "mine").mkdir()
        with pytest.raises(ValueError, match="finished run"):
            check_run_dir(out)
        assert not (out / "checkpoints").exists()
        assert (out / "mine").is_dir()

    def test_checkpoints_of_an_unfinished_run_stay(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        with run_folder(out, {"a": 1}):
            (out / "checkpoints" / "step_00000003").mkdir(parents=True)
        check_run_dir(out)
        assert (out / "checkpoints" / "step_00000003").is_dir()

    def test_finished_run_is_refused(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        with run_folder(out, Settings()) as run:
            (out / "checkpoints").mkdir()
            run.finish()
        assert files(out) == ["finished", "settings.json"]
        assert not (out / "checkpoints").exists()
        with pytest.raises(ValueError, match=r"finished run.*--overwrite"):
            claim(out)

    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            (
                Settings(training=Training(steps=6, batch_pairs=2, learning_rate=1e-3)),
                r"training\.steps: 5 -> 6",
            ),
            (Settings(objective=SISS(lam=0.25)), r"objective\.lam: 0\.5 -> 0\.25"),
            (OTHER, r"objective\.class: SISS -> SISSNoIS"),
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
        claim(out)
        (out / "log.jsonl").write_text("a step")
        before = (out / "settings.json").read_text()
        with pytest.raises(ValueError, match=named):
            claim(out, changed)
        assert (out / "settings.json").read_text() == before

    def test_a_run_that_has_written_nothing_gives_way_to_other_settings(
        self, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        claim(out)
        assert claim(out, OTHER) is RunState.NEW
        (out / "log.jsonl").write_text("a step")
        assert claim(out, OTHER) is RunState.UNFINISHED

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_foreign_files_are_never_touched(self, tmp_path: Path, overwrite: bool) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(ValueError, match="files that are not a run's"):
            claim(tmp_path, overwrite=overwrite)
        assert files(tmp_path) == ["thesis.tex"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_file_is_no_folder(self, tmp_path: Path, overwrite: bool) -> None:
        path = tmp_path / "thesis.tex"
        path.write_text("years of work")
        for out in (path, path / "run"):
            with pytest.raises(ValueError, match="is a file"):
                claim(out, overwrite=overwrite)
        assert path.read_text() == "years of work"


class TestOverwrite:
    def test_of_nothing_is_a_new_run(self, tmp_path: Path) -> None:
        assert claim(tmp_path / "run", overwrite=True) is RunState.NEW
        assert files(tmp_path / "run") == ["settings.json"]

    def test_the_old_run_stays_until_the_new_one_is_whole(self, tmp_path: Path) -> None:
        out = finished(tmp_path / "run")
        before = {name: (out / name).read_text() for name in files(out)}
        with run_folder(out, OTHER, overwrite=True) as run:
            assert run.state is RunState.NEW
            assert run.folder == out / REPLACEMENT
            (run.folder / "log.jsonl").write_text("new")
            (run.folder / "report.json").write_text("new")
            assert {name: (out / name).read_text() for name in before} == before
            run.finish()
            assert run.folder == out
        assert files(out) == ["finished", "log.jsonl", "report.json", "settings.json"]
        assert (out / "log.jsonl").read_text() == "new"
        assert json.loads((out / "settings.json").read_text()) == describe(OTHER)
        assert not (out / "model").exists()

    def test_what_no_run_wrote_stays(self, tmp_path: Path) -> None:
        out = finished(tmp_path / "run")
        foreign = {"notes.txt": "mine", "model/README.md": "mine", "pictures/0.png": "mine"}
        for name, content in foreign.items():
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text(content)
        with run_folder(out, OTHER, overwrite=True) as run:
            (run.folder / "model").mkdir()
            (run.folder / "model" / "weights").write_text("new")
            run.finish()
        assert {name: (out / name).read_text() for name in foreign} == foreign
        assert (out / "model" / "weights").read_text() == "new"
        assert not (out / "log.jsonl").exists()

    def test_links_are_removed_and_not_followed(self, tmp_path: Path) -> None:
        """Of a run of an earlier version, which left no list of its files."""
        out = finished(tmp_path / "run")
        (out / "finished").write_bytes(b"")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "base").write_text("years of work")
        (out / "lora").symlink_to(tmp_path / "elsewhere")
        (out / "model" / "also").symlink_to(tmp_path / "elsewhere")
        with run_folder(out, OTHER, overwrite=True) as run:
            run.finish()
        assert files(out) == ["finished", "settings.json"]
        assert not (out / "model").exists()
        assert (tmp_path / "elsewhere" / "base").read_text() == "years of work"

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_an_interrupted_replacement_goes_on(self, tmp_path: Path, overwrite: bool) -> None:
        out = finished(tmp_path / "run")
        with run_folder(out, OTHER, overwrite=True) as run:
            (run.folder / "log.jsonl").write_text("half")
        check_run_dir(out, overwrite=overwrite)
        with run_folder(out, OTHER, overwrite=overwrite) as run:
            assert run.state is RunState.UNFINISHED
            assert (run.folder / "log.jsonl").read_text() == "half"
            assert (out / "model" / "weights").read_text() == "old"
            run.finish()
        assert files(out) == ["finished", "log.jsonl", "settings.json"]

    def test_one_with_other_settings_starts_anew_or_is_refused(self, tmp_path: Path) -> None:
        out = finished(tmp_path / "run")
        with run_folder(out, OTHER, overwrite=True) as run:
            (run.folder / "log.jsonl").write_text("half")
        third = Settings(data=Path("others"))
        with pytest.raises(ValueError, match="finished run"):
            claim(out, third)
        with run_folder(out, third, overwrite=True) as run:
            assert run.state is RunState.NEW
            assert files(run.folder) == ["settings.json"]

    @pytest.mark.parametrize("cut_after", range(4))
    def test_a_kill_while_files_are_moved_is_made_good(
        self, tmp_path: Path, cut_after: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = finished(tmp_path / "run")
        (out / "notes.txt").write_text("mine")
        with run_folder(out, OTHER, overwrite=True) as run:
            for name in ("model", "lora"):
                (run.folder / name).mkdir()
                (run.folder / name / "weights").write_text("new")
            moved, real = [], os.replace

            def replace(source: str | Path, target: str | Path) -> None:
                if REPLACEMENT not in str(target):
                    if len(moved) == cut_after:
                        raise KeyboardInterrupt
                    moved.append(target)
                real(source, target)

            with monkeypatch.context() as patch:
                patch.setattr("dataunlearn.runtime.own_files.os.replace", replace)
                with pytest.raises(KeyboardInterrupt):
                    run.finish()
        with pytest.raises(ValueError, match="finished run"):
            claim(out, OTHER)
        names = ["finished", "lora/weights", "model/weights", "notes.txt", "settings.json"]
        assert files(out) == names
        assert {(out / name).read_text() for name in names[1:3]} == {"new"}


class TestInputs:
    @pytest.mark.parametrize("place", ["", "in", "in/deep/shirt.png"])
    def test_inside_the_output_are_refused(self, tmp_path: Path, place: str) -> None:
        out = tmp_path / "out"
        (out / "in" / "deep").mkdir(parents=True)
        (out / "in" / "deep" / "shirt.png").write_text("mine")
        with pytest.raises(ValueError, match=r"--held-out .* lies inside --out"):
            check_run_dir(out, overwrite=True, inputs={"held_out": str(out / place)})
        assert files(out) == ["in/deep/shirt.png"]

    def test_are_found_behind_links_and_in_archives(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "a.npz").touch()
        (tmp_path / "link").symlink_to(out / "a.npz")
        for source in (str(out / "a.npz:key[3]"), tmp_path / "link", ["none", str(out / "a.npz")]):
            with pytest.raises(ValueError, match="lies inside"):
                check_run_dir(out, inputs={"forget": source})

    def test_elsewhere_or_of_other_kinds_are_none(self, tmp_path: Path) -> None:
        (tmp_path / "beside").touch()
        others = ("google/ddpm", "x" * 9999, "a\nb", "\0", "", 3, None, tmp_path / "beside")
        check_run_dir(tmp_path / "out", inputs={"model": list(others), "keep": tmp_path})
        check_run_dir(tmp_path / "out" / "run", inputs={"model": tmp_path})


class TestPlaces:
    @pytest.mark.parametrize("name", ["caf\udce9", "a" * 300, "a/" + "b" * 300, "nul\0"])
    def test_names_that_no_file_can_have_are_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match="--out"):
            check_run_dir(tmp_path / name)

    def test_a_folder_that_cannot_be_written_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"cannot be written: .*choose another --out"):
            check_run_dir(Path("/proc/run"))

    def test_usable_folders_pass_and_stay_as_they_are(self, tmp_path: Path) -> None:
        for overwrite in (False, True):
            check_run_dir(tmp_path / "new" / "deep", overwrite=overwrite)
            assert list(tmp_path.iterdir()) == []
        (tmp_path / "empty").mkdir()
        check_run_dir(tmp_path / "empty")
        out = finished(tmp_path / "run")
        before = files(out)
        check_run_dir(out, overwrite=True)
        with pytest.raises(ValueError, match="finished run"):
            check_run_dir(out)
        assert files(out) == before


HOLD = """
import sys, time
from pathlib import Path
from dataunlearn.runtime.run_folder import run_folder
with run_folder(Path(sys.argv[1]), {"a": 1}):
    print("held", flush=True)
    time.sleep(600)
"""


class TestTwoRuns:
    def test_the_second_is_refused_by_the_holders_name_until_it_is_gone(
        self, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        command = [sys.executable, "-c", HOLD, str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            for overwrite in (False, True):
                words = rf"is being written to by process {holder.pid} on {os.uname().nodename} "
                with pytest.raises(ValueError, match=words):
                    claim(out, {"a": 1}, overwrite=overwrite)
                with pytest.raises(ValueError, match=words):
                    check_run_dir(out, overwrite=overwrite)
            holder.kill()
        assert (out / ".lock").is_file()
        check_run_dir(out)
        assert claim(out, {"a": 1}) is RunState.NEW
        assert files(out) == ["settings.json"]

    def test_of_one_process_too(self, tmp_path: Path) -> None:
        with (
            run_folder(tmp_path / "run", {}),
            pytest.raises(ValueError, match="being written to"),
        ):
            claim(tmp_path / "run", {})
        assert claim(tmp_path / "run", {}) is RunState.NEW


class TestLeftovers:
    @pytest.mark.parametrize(
        "name",
        [
            ".model-ab_d1fgh.unfinished",
            ".images.npz-abcdefgh.unfinished",
            ".model-ab3d_fgh",
            ".images.npz-abcdefg0",
        ],
    )
    @pytest.mark.parametrize("deep", [False, True])
    def test_of_killed_runs_go(self, tmp_path: Path, name: str, deep: bool) -> None:
        out = tmp_path / "run"
        place = out / "data" / "000" if deep else out
        place.mkdir(parents=True)
        if name.startswith(".model"):
            (place / name).mkdir()
            (place / name / "weights").touch()
        else:
            (place / name).touch()
        if deep:
            (out / "settings.json").write_text("{}")
        assert claim(out, {}) is (RunState.UNFINISHED if deep else RunState.NEW)
        assert files(out) == ["settings.json"]

    def test_of_others_stay(self, tmp_path: Path) -> None:
        out = finished(tmp_path / "run")
        kept = [".model-precious", ".notes-ab3d_fgh", ".models", "model-ab3d_fgh"]
        for name in kept:
            (out / name).touch()
        nested = out / "cell" / ".model-ab_d1fgh.unfinished"  # of a run that may be at work
        nested.mkdir(parents=True)
        (nested.parent / "settings.json").touch()
        claim(out, OTHER, overwrite=True)
        assert nested.is_dir()
        assert set(kept) <= set(files(out))

    def test_a_folder_that_was_moved_away_goes_back(self, tmp_path: Path) -> None:
        out = tmp_path / "run"
        claim(out, {})
        moved = out / ".model-old-ab_d1fgh.unfinished"
        (moved / "folder").mkdir(parents=True)
        (moved / "folder" / "weights").write_text("old")
        claim(out, {})
        assert files(out) == ["model/weights", "settings.json"]


class TestDamagedSettings:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        """An unfinished run, whose newest checkpoint has a copy of its settings."""
        claim(tmp_path / "run", {"seed": 3})
        place = tmp_path / "run" / "checkpoints" / "step_00000002"
        place.mkdir(parents=True)
        (place / "settings.json").write_text(json.dumps(sealed({"settings": {"seed": 3}})))
        return tmp_path / "run"

    @pytest.mark.parametrize("text", ["", "null", "{", '{"seed": 7}', "\ud800"])
    def test_are_taken_from_the_checkpoint(self, out: Path, text: str) -> None:
        (out / "settings.json").write_bytes(text.encode(errors="surrogatepass"))
        with pytest.warns(DamagedFileWarning, match="copy in the newest checkpoint"):
            assert claim(out, {"seed": 3}) is RunState.UNFINISHED
        assert json.loads((out / "settings.json").read_text()) == {"seed": 3}
        with pytest.raises(ValueError, match="seed: 3 -> 4"):
            claim(out, {"seed": 4})

    def test_without_a_copy_there_is_advice(self, out: Path) -> None:
        (out / "settings.json").write_text("{")
        shutil.rmtree(out / "checkpoints")
        (out / "log.jsonl").touch()
        with pytest.raises(DamagedFileError, match=r"settings.json is damaged.*--overwrite"):
            claim(out, {"seed": 3})
        assert claim(out, {"seed": 3}, overwrite=True) is RunState.NEW

    def test_of_a_run_that_has_written_nothing_are_written_anew(self, tmp_path: Path) -> None:
        claim(tmp_path / "run", {})
        (tmp_path / "run" / "settings.json").write_text("{")
        assert claim(tmp_path / "run", {}) is RunState.NEW
