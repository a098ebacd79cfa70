"""Wheel and source archive: what is in them, and that they work away from the repository."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import dataunlearn

ROOT = Path(__file__).parents[1]


def test_versions_agree() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited is not None
    assert cited[1] == dataunlearn.__version__


@pytest.mark.slow
def test_a_wheel_of_the_source_archive_runs_the_demo(tmp_path: Path) -> None:
    """Installed in an environment of its own; other packages are borrowed from this one."""
    pytest.importorskip("build")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)])
    (archive,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    with tarfile.open(archive) as files:
        names = [name.partition("/")[2] for name in files.getnames()]
    assert {"LICENSE", "README.md", "src/dataunlearn/assets/tshirt.png"} <= set(names)
    with zipfile.ZipFile(wheel) as files:
        inside = set(files.namelist())
    pages = {f"dataunlearn/report/{name}.html" for name in ("run", "audit", "verification")}
    assert pages | {"dataunlearn/py.typed", "dataunlearn/assets/digits.npz"} <= inside
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    run([str(python), "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", str(wheel)])
    borrow(python)
    place = run([str(python), "-c", "import dataunlearn; print(dataunlearn.__file__)"], tmp_path)
    assert str(tmp_path / "env") in place
    little = ["--steps", "2", "--num_samples", "20", "--regeneration_copies", "1"]
    command = [str(python.parent / "dataunlearn"), "demo", "--siss", "false", "--device", "cpu"]
    done = subprocess.run([*command, *little], cwd=tmp_path, check=False)
    assert done.returncode in (0, 4, 5)
    assert (tmp_path / "runs" / "demo" / "report.html").is_file()


def borrow(python: Path) -> None:
    """Let an environment find the packages of this one, after its own."""
    import torch

    packages = Path(torch.__file__).parents[1]
    (site,) = (python.parents[1] / "lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(f"{packages}\n")


def run(command: list[str], place: Path | None = None) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
