from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch

from dataunlearn.metrics.intervals import wilson
from dataunlearn.metrics.never_seen import witness_of
from dataunlearn.objectives import OBJECTIVES, SISS, Counterfactual, Objective
from dataunlearn.recognition.levels import Levels
from dataunlearn.recognition.witness import Pictures
from dataunlearn.timesteps import Above, Uniform
from dataunlearn.unlearning import stopping
from dataunlearn.unlearning.control import Control
from dataunlearn.unlearning.method import Method, QualityBudget, StopRule
from toy_levels import levels_by_hand


class FakeTrainer:
    """Records what the callback asks for."""

    def __init__(self) -> None:
        self.settled_after: int | None = None
        self.now = 0
        self.calls: list[tuple[str, int]] = []
        self.record: dict[str, float] = {}
        self.arrived: list[bool] = []
        self.model = SimpleNamespace()

    def settle(self) -> bool:
        self.settled_after = self.now
        self.calls.append(("settle", self.now))
        return False

    def forget_again(self) -> None:
        self.settled_after = None
        self.calls.append(("forget again", self.now))


def job_with(rule: StopRule, *, stops_at_level: bool) -> Any:
    """What looks need of a job."""
    return SimpleNamespace(
        config=SimpleNamespace(
            stop=rule,
            seed=0,
            stops_at_level=stops_at_level,
            is_aimed=stops_at_level,
            evaluation=SimpleNamespace(regeneration_steps=None),
        ),
        model=SimpleNamespace(process=SimpleNamespace(num_train_timesteps=1000)),
        training=SimpleNamespace(steps=100),
        originals=None,
        threshold=1.0,
        cond=None,
        levels=None,
    )


def run(
    shares: dict[int, float], monkeypatch: pytest.MonkeyPatch, steps: int, rule: StopRule
) -> tuple[FakeTrainer, list[int]]:
    """The callback over some steps, with what each look finds; also the steps it looked at."""
    trainer, looks = FakeTrainer(), []

    def regenerate(*_: Any, **__: Any) -> Any:
        looks.append(trainer.now)
        return SimpleNamespace(share=shares.get(trainer.now, 0.0))

    monkeypatch.setattr(stopping, "regenerate", regenerate)
    job = job_with(rule, stops_at_level=False)
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


@pytest.mark.parametrize(("never", "settles"), [(None, 8), (0.2, 8), (0.5, 4), (0.9, 8)])
def test_what_was_never_seen_and_comes_back_as_often_does_not_count(
    never: float | None, settles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless most of that comes back: then a model that still knows the images restores as much."""
    control = None if never is None else Control(never, torch.tensor([never]))
    monkeypatch.setattr(stopping, "tries_at_unseen", lambda *_: control)
    trainer, _ = run({2: 0.75, 4: 0.5, 6: 0.25}, monkeypatch, 8, StopRule(every_steps=2))
    assert trainer.calls == [("settle", settles)]


@pytest.mark.parametrize(("never", "settles"), [(None, 6), (0.4, 6), (0.5, 4)])
def test_at_the_level_it_does_not_count_either(
    never: float | None, settles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the second image, which comes back in all its tries, only with a control of its own."""
    by_image = torch.tensor([0.0, 2.0 * (never or 0)]).clamp(max=1)
    control = None if never is None else Control(never, by_image)
    monkeypatch.setattr(stopping, "tries_at_unseen", lambda *_: control)
    monkeypatch.setattr(stopping, "shares_of_each", lambda *_: torch.tensor([0.0, 1.0]))
    trainer, seen = run_to_levels(
        {2: [0.1, 0.1], 4: [1.0, 1.0], 6: [1.0, 1.0]},
        monkeypatch,
        6,
        StopRule(every_steps=2),
        {4: 0.5},
    )
    assert trainer.calls == [("settle", settles)]
    assert seen[1] == [True, never == 0.5]


def test_forgets_again_what_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, looks = run({6: 0.25, 8: 0.25}, monkeypatch, 12, StopRule(every_steps=2))
    assert trainer.calls == [("settle", 2), ("forget again", 6), ("settle", 10)]
    assert looks == [2, 6, 8, 10, 12]


def test_never_looks_without_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, looks = run({}, monkeypatch, 12, StopRule(every_steps=0))
    assert trainer.calls == []
    assert looks == []


def run_to_levels(
    ratios: dict[int, list[float]],
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    rule: StopRule,
    restored: Mapping[int, float] = MappingProxyType({}),
) -> tuple[FakeTrainer, list[list[bool]]]:
    """The callback over some steps, with the share of its level each image has at each look.

    ``restored`` is the share of tries that bring them back, the first ones, by step.
    """
    trainer, seen = FakeTrainer(), []

    def regenerate(*_: Any, copies: int, **__: Any) -> Any:
        count = round(restored.get(trainer.now, 0.0) * copies)
        distances = torch.ones(copies).index_fill(0, torch.arange(count), 0.5)
        interval = wilson(count, copies)
        return SimpleNamespace(share=count / copies, interval=interval, distances=distances)

    monkeypatch.setattr(stopping, "regenerate", regenerate)
    monkeypatch.setattr(
        stopping,
        "level_ratios",
        lambda *_: torch.tensor(ratios[trainer.now], dtype=torch.float64),
    )
    job = job_with(rule, stops_at_level=True)
    look: Any = stopping.stop_callback(job)
    for step in range(1, steps + 1):
        trainer.now = step
        assert look(trainer, step) is False
        if step in ratios:
            seen.append(trainer.arrived)
    return trainer, seen


def test_settles_once_the_images_are_at_their_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their geometric mean from 0.75 of the level on, and each from two thirds of that on, 0.5."""
    ratios = {
        2: [0.1, 9.0],  # the mean is 0.95, but the first is far from it
        4: [0.49, 2.0],
        6: [0.7, 0.74],  # both are near, the mean is not there
        8: [0.6, 1.0],  # the square root of 0.6 is 0.77
        12: [1.0, 4.0],
    }
    rule = StopRule(every_steps=2, arrived_from=0.75)
    trainer, seen = run_to_levels(ratios, monkeypatch, 12, rule)
    assert trainer.calls == [("settle", 8)]
    assert seen == [[False, True], [False, True], [False, False], [False, True], [True, True]]
    assert trainer.record["of_level"] == pytest.approx(2.0)  # the square root of 1 times 4
    assert trainer.record["arrived"] == 2
    assert trainer.record["restored"] == 0


def test_at_its_level_it_must_not_be_restored_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tries to restore an image that is not there yet; what comes back while the model
    settles is forgotten again if it is more than an accident: 3 of 16 tries are (Wilson: from
    7 % on), 6 are not (from 18 % on). An eighth may come back, as of a model that never saw it,
    unless the rule says otherwise."""
    ratios = {2: [0.1]} | {step: [1.0] for step in range(4, 22, 2)}
    rule = StopRule(every_steps=2, arrived_from=0.8)
    restored = {2: 4 / 16, 4: 3 / 16, 6: 2 / 16, 12: 3 / 16, 18: 6 / 16}
    trainer, seen = run_to_levels(ratios, monkeypatch, 20, rule, restored)
    assert trainer.calls == [("settle", 6), ("forget again", 18), ("settle", 20)]
    assert [arrived for [arrived] in seen] == [*[False] * 2, *[True] * 3, *[False] * 4, True]
    strict = replace(rule, regeneration_below=0.0)
    trainer, _ = run_to_levels(ratios, monkeypatch, 12, strict, {4: 0.1, 6: 0.1, 8: 0.1})
    assert trainer.calls == [("settle", 10)]
    early, _ = run_to_levels({2: [0.1]}, monkeypatch, 2, rule, {2: 0.2})
    assert early.calls == [] and "restored" not in early.record


def test_an_image_that_is_restored_has_not_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are at their levels; of 16 tries, dealt out in turn, the first three restore an image:
    a quarter of the first one's own, an eighth of the second one's."""
    rule = StopRule(every_steps=2)
    trainer, seen = run_to_levels({2: [1.0, 1.0]}, monkeypatch, 2, rule, {2: 3 / 16})
    assert seen == [[False, True]]
    assert trainer.record["arrived"] == 1
    assert trainer.calls == []


def test_each_images_share_of_its_own_tries() -> None:
    """Of 70 images 64 are tried, the first of them twice in 65 tries."""
    three = stopping.shares_of_each(torch.tensor([True, False, True, False, False, True]), 3)
    assert three.tolist() == [0.5, 0.0, 1.0]
    restored = torch.zeros(65, dtype=torch.bool).index_fill(0, torch.tensor([0, 63]), True)
    many = stopping.shares_of_each(restored, 70)
    assert many[[0, 1, 63, 64, 69]].tolist() == [0.5, 0.0, 1.0, 0.0, 0.0]


def test_a_settled_image_may_fall_back_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to 0.85 of where it counted: 0.68 here. Below that the model forgets again."""
    ratios = {2: [0.8], 6: [0.69], 12: [0.67], 14: [0.79], 16: [0.81], 18: [0.8]}
    rule = StopRule(every_steps=2, arrived_from=0.8)
    trainer, seen = run_to_levels(ratios, monkeypatch, 18, rule)
    assert trainer.calls == [("settle", 2), ("forget again", 12), ("settle", 16)]
    assert seen == [[True], [True], [False], [False], [True], [True]]


def test_settles_half_way_whatever_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 55 of 100 steps, between two looks; nothing makes the model forget again after that."""
    ratios = {10: [0.1], 20: [0.9], 50: [0.3], 55: [0.5], 60: [0.1], 90: [0.1]}
    rule = StopRule(every_steps=10, settle_by=0.55)
    ratios |= {step: [0.5] for step in (30, 40)}
    trainer, _ = run_to_levels(ratios, monkeypatch, 100, rule)
    assert trainer.calls == [("settle", 20), ("forget again", 30), ("settle", 55)]


def test_settles_between_looks_that_are_far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """After three quarters of 100 steps, where looks come after forty and eighty."""
    ratios = {step: [0.1] for step in (40, 75, 80)}
    trainer, _ = run_to_levels(ratios, monkeypatch, 100, StopRule(every_steps=40))
    assert trainer.calls == [("settle", 75)]
    ended, _ = run_to_levels({40: [0.1], 80: [1]}, monkeypatch, 90, StopRule(40, then="end"))
    assert ended.calls == [("settle", 80)]


def level_job(
    make_model: Any, make_images: Any, count: int, recognition: list[list[float]]
) -> tuple[Any, Levels]:
    """A job about random pictures whose levels are what its own model loses.

    Before is (1 - recognition) of that.
    """
    model, forget = make_model(), make_images(count)
    witness = witness_of(model, count, 3)
    timesteps = (100, 300, 600)
    level = witness.mean_losses(Pictures(forget.batch(torch.arange(count))), timesteps)
    known = torch.tensor(recognition, dtype=torch.float64)[..., None]
    by_hand = levels_by_hand(recognition, (1, 8, 8), timesteps)
    levels = replace(by_hand, before=(1 - known) * level, level=level)
    job = SimpleNamespace(
        config=SimpleNamespace(seed=3),
        split=SimpleNamespace(forget=forget),
        model=model,
        levels=levels,
    )
    return job, levels


@pytest.mark.parametrize("count", [1, 3, 12, 13, 30])
def test_a_model_at_the_level_has_a_ratio_of_one(
    count: int, make_model: Any, make_images: Any
) -> None:
    """The same noise as the level's, however many draws it was measured with."""
    job, _ = level_job(make_model, make_images, count, [[0.9, 0.5, 0.3]] * count)
    torch.testing.assert_close(
        stopping.level_ratios(job, job.model), torch.ones(count, dtype=torch.float64)
    )


def test_the_ratio_is_a_geometric_mean_over_recognised_noise_levels(
    make_model: Any, make_images: Any
) -> None:
    """By hand: levels 4, 9 and 100 times the loss; the last one counts where it is recognised.

    The first image: (1/4 * 1/9)^(1/2) = 1/6; the second: 1/4 alone; the third is recognised
    nowhere: 1; the fourth everywhere: (1/3600)^(1/3).
    """
    known = [[0.9, 0.31, 0.29], [0.5, 0.2, 0.0], [0.29, 0.1, 0.0], [0.4, 0.4, 0.4]]
    job, levels = level_job(make_model, make_images, 4, known)
    factor = torch.tensor([4.0, 9.0, 100.0], dtype=torch.float64).reshape(1, 3, 1)
    levels = replace(levels, level=factor * levels.level, before=factor * levels.before)
    job.levels = levels
    expected = torch.tensor([1 / 6, 1 / 4, 1.0, 3600 ** (-1 / 3)], dtype=torch.float64)
    torch.testing.assert_close(stopping.level_ratios(job, job.model), expected)


def test_without_any_recognition_there_is_nothing_to_forget(
    make_model: Any, make_images: Any
) -> None:
    job, _ = level_job(make_model, make_images, 2, [[0.2, 0.1, 0.0]] * 2)
    assert stopping.level_ratios(job, job.model).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", [0.0, 1.01, -0.5])
def test_a_senseless_share_of_the_level_is_an_error(value: float) -> None:
    with pytest.raises(ValueError, match="arrived_from"):
        StopRule(arrived_from=value)


@pytest.mark.parametrize(
    ("objective", "once", "at_level"),
    [
        (Counterfactual(), None, True),
        (Counterfactual(), "restored", False),
        (Counterfactual(), "level", True),
        (SISS(), None, False),
        (SISS(), "level", True),
        (SISS(), "restored", False),
    ],
)
def test_what_a_method_stops_at(objective: Objective, once: Any, at_level: bool) -> None:
    assert Method(objective=objective, stop=StopRule(once=once)).stops_at_level is at_level


def test_noise_levels_are_the_given_ones_or_the_objectives_own() -> None:
    assert Method(objective=Counterfactual()).noise_levels == Uniform()
    assert Method(objective=SISS()).noise_levels == Above()
    assert Method(objective=Counterfactual(), timesteps=Above(0.5)).noise_levels == Above(0.5)


def test_what_the_keep_side_is_held_to() -> None:
    """Predictions where a method says so, unless the user does."""
    held = {name for name, kind in OBJECTIVES.items() if Method(objective=kind()).keeps_predictions}
    assert held == {"Counterfactual", "SISS", "SISSNoIS", "BernoulliSubscore"}
    assert not Method(objective=Counterfactual(), keep_towards="data").keeps_predictions
    assert Method(objective=OBJECTIVES["EraseDiff"](), keep_towards="predictions").keeps_predictions


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
