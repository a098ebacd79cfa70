from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dataunlearn
from dataunlearn import objectives


def names_for_type_checkers() -> dict[str, str]:
    """The names that the package imports for type checkers, and the modules they come from."""
    tree = ast.parse(Path(dataunlearn.__file__).read_text())
    (block,) = [s for s in tree.body if isinstance(s, ast.If) and isinstance(s.test, ast.Name)]
    imports = [statement for statement in block.body if isinstance(statement, ast.ImportFrom)]
    return {alias.name: str(line.module) for line in imports for alias in line.names}


def test_type_checkers_see_what_is_imported_at_first_use() -> None:
    assert names_for_type_checkers() == dataunlearn._MODULES
    assert sorted(dataunlearn._MODULES) == sorted(dataunlearn.__all__)


def test_every_name_is_there() -> None:
    everything: dict[str, Any] = {}
    exec("from dataunlearn import *", everything)
    assert set(dataunlearn.__all__) <= everything.keys()
    assert everything["SISS"] is dataunlearn.SISS is objectives.SISS
    assert set(dataunlearn.__all__) <= set(dir(dataunlearn))


def test_an_unknown_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="module 'dataunlearn' has no attribute 'Sis'"):
        dataunlearn.Sis  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Sis'"):
        exec("from dataunlearn import Sis")
    assert not hasattr(dataunlearn, "Sis")


def test_modules_are_there_after_importing_the_package_alone() -> None:
    """In a process of its own, where nothing else has imported them."""
    code = "import dataunlearn; print(dataunlearn.process.ForwardProcess.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "dataunlearn.process"
    for name in dataunlearn._ROOMS:
        assert dataunlearn.__getattr__(name) is sys.modules[f"dataunlearn.{name}"]
