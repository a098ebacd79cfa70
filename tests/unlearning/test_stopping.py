from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dataunlearn.unlearning import stopping
from dataunlearn.unlearning.method import QualityBudget, StopRule


class FakeTrainer:
    """Records what the callback asks for."""

    def __init__(self) -> None:
        self.settled_after: int | None = None
        self.now = 0
        self.calls: list[tuple[str, int]] = []
        self.record: dict[str, float] = {}
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
            stop=rule,
            seed=0,
            stops_at_level=False,
            evaluation=SimpleNamespace(regeneration_steps=None),
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
    assert trainer.record == {"restored": 0.0}  # of the last look


def test_forgets_again_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, looks = run({6: 0.25, 8: 0.25}, monkeypatch, 12, StopRule(every_steps=2))
    assert trainer.calls == [("settle", 2), ("forget again", 6), ("settle", 10)]
    assert looks == [2, 6, 8, 10, 12]


def test_never_looks_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, looks = run({}, monkeypatch, 12, StopRule(every_steps=0))
    assert trainer.calls == []
    assert looks == []


class RememberingTrainer:
    """Knows which step's weights it holds."""

    def __init__(self, steps: int) -> None:
        self.config = SimpleNamespace(steps=steps)
        self.now = self.remembered_at = self.holds = 0
        self.notes: list[str] = []
        self.record: dict[str, float] = {}

    def averaged(self) -> Any:
        return nullcontext()

    def remember(self) -> None:
        self.remembered_at = self.now

    def go_back(self) -> None:
        self.holds = self.remembered_at


def run_within(
    budget: QualityBudget, losses: dict[int, float], steps: int, monkeypatch: pytest.MonkeyPatch
) -> RememberingTrainer:
    """A run whose keep loss is 1 but where ``losses`` says otherwise."""
    trainer = RememberingTrainer(steps)
    monkeypatch.setattr(
        stopping, "keep_losses", lambda *_: torch.tensor([losses.get(trainer.now, 1.0)])
    )
    job: Any = SimpleNamespace(
        config=SimpleNamespace(seed=0), split=SimpleNamespace(keep=range(10)), model=None
    )
    look: Any = stopping.budget_callback(job, budget)
    for step in range(1, steps + 1):
        trainer.now = trainer.holds = step
        if look(trainer, step):
            break
    return trainer


BUDGET = QualityBudget(0.1, every_steps=2, patience=6)


def test_harm_that_passes_does_not_end_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run_within(BUDGET, {4: 1.5, 6: 1.5, 12: 2.0}, 20, monkeypatch)
    assert trainer.now == trainer.holds == 20
    assert trainer.notes == []


def test_harm_that_lasts_ends_a_run_at_the_last_look_within(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = run_within(BUDGET, dict.fromkeys(range(7, 21), 1.2), 20, monkeypatch)
    assert (trainer.now, trainer.holds) == (12, 6)
    assert "from step 6 to 12" in trainer.notes[0]


def test_a_run_that_ends_above_the_budget_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = run_within(BUDGET, {19: 1.2}, 19, monkeypatch)
    assert (trainer.now, trainer.holds) == (19, 18)
    assert trainer.record == {"damage": pytest.approx(0.2)}


def test_without_patience_the_first_look_above_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = QualityBudget(0.1, every_steps=2, patience=0)
    trainer = run_within(budget, {2: 1.11}, 20, monkeypatch)
    assert (trainer.now, trainer.holds) == (2, 0)  # the model before the first step


@pytest.mark.parametrize("change", [{"loss_increase": 0}, {"every_steps": 0}, {"patience": -1}])
def test_senseless_budgets_are_errors(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        QualityBudget(**{"loss_increase": 0.1, **change})
