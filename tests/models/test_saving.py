"""What a killed save leaves behind is known for ours, so that the next run removes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import dataunlearn
from dataunlearn.models import DiffusionModel
from dataunlearn.models.saving import save_model
from dataunlearn.runtime.files import UNFINISHED, left_behind


def test_a_model_half_saved_is_known(
    make_model: Callable[..., DiffusionModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, written = make_model(), []

    def cut_off(self: Any, folder: str, **options: Any) -> None:
        written.append(Path(folder))
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model.pipeline), "save_pretrained", cut_off)
    with pytest.raises(KeyboardInterrupt):
        save_model(model, tmp_path / "model", torch.float32)
    assert written[0].name.endswith(UNFINISHED)
    assert left_behind(written[0]) == "model"
    assert not list(tmp_path.iterdir())


def test_temporary_folders_are_made_in_one_place() -> None:
    """One without the ending is known only if its random part happens to have a digit."""
    root = Path(dataunlearn.__file__).parent
    making = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"\bmkdtemp\(|\bmkstemp\(", path.read_text(encoding="utf-8"))
    }
    assert making == {"runtime/files.py"}
