"""What is the same run: settings by value and declared default, inputs by content."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dataunlearn.objectives import SISS
from dataunlearn.runtime.settings import changes, describe, differences
from dataunlearn.training.config import Ema, Training


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    needed: int = 1


@dataclass(frozen=True)
class Outer:
    steps: int
    inner: Inner = Inner()
    names: list[str] = field(default_factory=list)
    limit: int | None = None


class TestDescribe:
    def test_survives_json(self) -> None:
        training = Training(5, 2, 1e-3, ema=Ema())
        described = describe({"objective": SISS(), "training": training, "data": Path("pictures")})
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
        names = {each.name for each in dataclasses.fields(Training)}
        assert described["training"].keys() == names | {"class"}

    def test_a_class_is_not_an_instance(self) -> None:
        assert describe(SISS) == str(SISS)


class TestDifferences:
    def test_are_named(self) -> None:
        old = {"a": 1, "b": {"c": [1, 2], "gone": 3}}
        new = {"a": 1, "b": {"c": [1, 3]}, "fresh": True}
        assert differences(old, new) == [
            "b.c: [1, 2] -> [1, 3]",
            "b.gone: 3 -> None",
            "fresh: None -> True",
        ]
        assert differences(old, old) == []

    @pytest.mark.parametrize(
        "place", [("inner",), ("names",), ("limit",), ("inner", "rate"), ("inner", "needed")]
    )
    def test_a_new_setting_with_its_declared_default_is_none(self, place: tuple[str, ...]) -> None:
        """A version before did not know the setting; its default is what was done then."""
        asked = Outer(3)
        old = describe(asked)
        inside = old
        for name in place[:-1]:
            inside = inside[name]
        del inside[place[-1]]
        assert differences(old, describe(asked), declared=asked) == []
        assert differences({"a": old}, {"a": describe(asked)}, declared={"a": asked}) == []
        if place != ("limit",):  # without the object nothing is known of defaults
            assert differences(old, describe(asked)) != []

    @pytest.mark.parametrize(
        ("asked", "missing", "line"),
        [
            (Outer(3, limit=4), "limit", "limit: None -> 4"),
            (Outer(3, names=["a"]), "names", "names: None -> ['a']"),
            (Outer(3), "steps", "steps: None -> 3"),
        ],
    )
    def test_a_new_setting_with_another_value_is_one(
        self, asked: Outer, missing: str, line: str
    ) -> None:
        old = describe(asked)
        del old[missing]
        assert differences(old, describe(asked), declared=asked) == [line]

    def test_none_that_is_no_default_is_one(self) -> None:
        @dataclass(frozen=True)
        class Limited:
            limit: int | None = 7

        lines = differences({"class": "Limited"}, describe(Limited(None)), declared=Limited(None))
        assert lines == ["limit: not known -> None"]

    def test_what_has_a_hash_may_lie_anywhere(self) -> None:
        old = {"model": {"path": "a", "sha256": "1"}, "keep": {"first": "x", "sha256": "2"}}
        new = {"model": {"path": "b", "sha256": "1"}, "keep": {"first": "y", "sha256": "2"}}
        assert differences(old, new) == []
        assert differences({"model": {"path": "a"}}, {"model": {"path": "b"}}) != []
        changed = {"model": {"path": "a", "sha256": "3"}, "keep": old["keep"]}
        assert differences(old, changed) == ["model.sha256: 1 -> 3"]


class TestChanges:
    def test_inputs_are_compared_by_content_where_it_is_known(self) -> None:
        old = {"model": "a", "steps": 1, "inputs": {"weights": "1"}}
        moved = {"model": "b", "steps": 1, "inputs": {"weights": "1"}}
        replaced = {"model": "a", "steps": 1, "inputs": {"weights": "2"}}
        assert changes(old, moved, places=("model",)) == []
        assert changes(old, replaced, places=("model",)) == ["inputs.weights: 1 -> 2"]

    def test_a_run_of_an_earlier_version_is_known_by_its_places(self) -> None:
        old = {"model": "a", "steps": 1}
        same = {"model": "a", "steps": 1, "inputs": {"weights": "1"}}
        moved = {"model": "b", "steps": 1, "inputs": {"weights": "1"}}
        assert changes(old, same, places=("model",)) == []
        assert changes(old, moved, places=("model",)) == ["model: a -> b"]
