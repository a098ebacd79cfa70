"""The card of a new model: what was done, and nothing of what was removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from dataunlearn.unlearning.model_card import model_card, write_model_card


def facts(source: str = "someone/faces", count: int = 1) -> dict[str, Any]:
    return {
        "model": {
            "before": {"path": source, "sha256": "b" * 64},
            "after": {"path": "model", "sha256": "a" * 64},
        },
        "forget": {
            "names": ["/home/me/secret name.png"] * count,
            "digests": [f"{i:064d}" for i in range(count)],
            "file_sha256": ["f" * 64] * count,
        },
        "keep": {"count": 1000},
        "method": {
            "objective": "Counterfactual()",
            "combination": "Fixed()",
            "steps": 80,
            "learning_rate": 2e-4,
            "batch_pairs": 32,
        },
        "verdict": {"memory": "as if never seen", "quality": "kept"},
        "versions": {"torch": "2.13.0"},
    }


def test_the_card_says_what_was_done() -> None:
    card = model_card(facts())
    assert card.data.base_model == "someone/faces"
    assert card.data.library_name == "diffusers"
    assert "machine-unlearning" in card.data.tags
    for part in ("one picture was removed", "as if never seen", "Counterfactual()", "a" * 64):
        assert part in card.text


@pytest.mark.parametrize("count", [1, 3])
def test_the_card_tells_nothing_of_the_pictures(count: int) -> None:
    given = facts(count=count)
    text = str(model_card(given))
    for hidden in ("secret", f"{0:064d}", "f" * 64):
        assert hidden not in text
    assert ("3 pictures were" in text) == (count == 3)


def test_a_folder_here_is_no_base_on_the_hub(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "someone" / "faces").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for source in ("someone/faces", str(tmp_path / "someone"), "(in memory)"):
        card = model_card(facts(source))
        assert card.data.base_model is None
        assert str(tmp_path) not in str(card)


def test_the_written_card_is_read_by_the_hubs_library(tmp_path: Path) -> None:
    write_model_card(tmp_path, facts())
    assert ModelCard.load(tmp_path / "README.md").data.to_dict()["library_name"] == "diffusers"
