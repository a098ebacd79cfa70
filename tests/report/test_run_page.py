"""What the first screen of a run's page says of its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from dataunlearn.report.run_page import headlines


def report(reference: dict[str, float] | None) -> dict[str, Any]:
    side = {"regeneration_copies": 64, "regeneration_interval": {}}
    return {
        "forget": {"digests": ["a"]},
        "before": {**side, "regeneration": {"250": 1.0, "500": 1.0}},
        "after": {**side, "regeneration": {"250": 1.0, "500": 0.0}},
        "reference": None if reference is None else {"regeneration": reference},
        "settings": {},
    }


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (None, "so clear a copy may be completed without knowing the picture"),
        ({"250": 0.5, "500": 0.0}, "a model that never saw the picture: 50"),
    ],
)
def test_a_picture_that_comes_back_from_a_clear_copy_is_put_into_words(
    reference: dict[str, float] | None, said: str
) -> None:
    half, clear = headlines(report(reference))
    assert said in clear.note
    assert "so clear a copy" not in half.note
