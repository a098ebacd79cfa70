"""Measurements of a reference are looked at when they are opened, not when a page is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dataunlearn.assets import asset
from dataunlearn.unlearning.reference import read_numbers

GOOD: dict[str, Any] = {
    "regeneration": {"500": 0.5},
    "regeneration_interval": {"500": [0.4, 0.6]},
}


def test_what_ships_with_the_package_is_good() -> None:
    assert read_numbers(asset("mnist_tshirt_small/reference.json"))["regeneration"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"regeneration": 3}, "regeneration"),
        ({"regeneration": {"500": "much"}}, "regeneration"),
        ({"regeneration": {"500": 2}}, "regeneration"),
        ({"regeneration": {"half": 0.5}}, "regeneration"),
        ({"regeneration_interval": {"500": 3}}, "regeneration_interval"),
        ({"regeneration_interval": {"500": [1]}}, "regeneration_interval"),
        ({"regeneration_interval": None}, "regeneration_interval"),
        ({"over_level": []}, "nothing"),
        ({"over_level": 3}, "over_level"),
        ({"over_level": {"timesteps": ["a"], "mean": [1], "intervals": []}}, "over_level"),
        ({"over_level": {"timesteps": [1], "mean": ["a"], "intervals": []}}, "over_level"),
        ({"over_level": {"timesteps": [1], "mean": [1], "intervals": [3]}}, "over_level"),
        ({"inception_score": "high"}, "inception_score"),
        ({"broken_share": "few"}, "broken_share"),
        ({"broken_share_interval": 3}, "broken_share_interval"),
        ({"tshirt_frequency": [1]}, "tshirt_frequency"),
    ],
)
def test_other_forms_are_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    file = tmp_path / "reference.json"
    file.write_text(json.dumps({**GOOD, **change}))
    if named == "nothing":
        assert read_numbers(file)
        return
    with pytest.raises(ValueError, match=rf"reference.json: {named} are not as"):
        read_numbers(file)


@pytest.mark.parametrize("text", ["", "null", "[1]", "{", "[" * 9999, "{}"])
def test_what_holds_no_numbers_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "reference.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"reference.json"):
        read_numbers(file)
