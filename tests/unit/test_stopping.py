from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dataunlearn import stopping
from dataunlearn.unlearning_config import StopRule


class FakeTrainer:
    """Records what the callback asks for."""

    def __init__(self) -> None:
        self.settled_after: int | None = None
        self.now = 0
        self.calls: list[tuple[str, int]] = []
        self.model = SimpleNamespace()

    def settle(self) -> bool:
        self.settled_after = self.now
        self.calls.append(("settle", self.now))
        return False

    def forget_again(self) -> None:
        self.settled_after = None
        self.calls.append(("forget again", self.now))


def run(
    shares: dict[int, float], monkeypatch: pytest.MonkeyPatch, steps: int, rule: StopRule
) -> tuple[FakeTrainer, list[int]]:
    """The callback over some steps, with what each look finds; also the steps it looked at."""
    trainer, looks = FakeTrainer(), []

    def regenerate(*_: Any, **__: Any) -> Any:
        looks.append(trainer.now)
        return SimpleNamespace(share=shares.get(trainer.now, 0.0))

    monkeypatch.setattr(stopping, "regenerate", regenerate)
    job: Any = SimpleNamespace(
        config=SimpleNamespace(
            stop=rule, seed=0, evaluation=SimpleNamespace(regeneration_steps=None)
        ),
        model=SimpleNamespace(process=SimpleNamespace(num_train_timesteps=1000)),
        originals=None,
        threshold=1.0,
        cond=None,
    )
    look: Any = stopping.stop_callback(job)
    for step in range(1, steps + 1):
        trainer.now = step
        assert look(trainer, step) is False
    return trainer, looks


def test_settles_once_forgotten_and_then_looks_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, looks = run({2: 0.5}, monkeypatch, 12, StopRule(every_steps=2))
    assert trainer.calls == [("settle", 4)]
    assert looks == [2, 4, 6, 12]


def test_forgets_again_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, looks = run({6: 0.25, 8: 0.25}, monkeypatch, 12, StopRule(every_steps=2))
    assert trainer.calls == [("settle", 2), ("forget again", 6), ("settle", 10)]
    assert looks == [2, 6, 8, 10, 12]


def test_never_looks_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, looks = run({}, monkeypatch, 12, StopRule(every_steps=0))
    assert trainer.calls == []
    assert looks == []
