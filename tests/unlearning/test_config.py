from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup

from dataunlearn.base_models.config import BaseModel
from dataunlearn.training.config import Ema, Training

GOOD: dict[str, Any] = {"steps": 10, "batch_pairs": 4, "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("steps", -3),
        ("batch_pairs", 0),
        ("micro_batch_rows", 0),
        ("checkpoint_every_steps", 0),
        ("learning_rate", 0.0),
        ("learning_rate", -1e-3),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("weight_decay", -1e-6),
        ("weight_decay", math.nan),
        ("clip_norm", 0.0),
        ("clip_norm", math.nan),
        ("warmup_steps", -1),
        ("warmup_steps", 10),
        ("decay_after", -1),
        ("decay_after", 10),
        ("seed", -1),
        ("optimizer", "sgd"),
        ("schedule", "linear"),
        ("precision", "float16"),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Training(**GOOD | {name: value})


@pytest.mark.parametrize("decay", [1.0, -0.1, math.nan])
def test_bad_decay_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="max_decay"):
        Ema(max_decay=decay)


@pytest.mark.parametrize("name", ["inv_gamma", "power"])
def test_bad_warm_up_of_the_average_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Ema(**{name: 0.0})


@pytest.mark.parametrize("name", ["planted_copies", "sample_every_steps"])
def test_bad_base_model_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        BaseModel(unet={}, images="x", training=Training(**GOOD), **{name: 0})


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Training(**GOOD).steps = 3  # type: ignore[misc]


def test_defaults_of_one_base_model_do_not_leak_into_another() -> None:
    first = BaseModel(unet={}, images="x", training=Training(**GOOD))
    first.scheduler["num_train_timesteps"] = 7
    second = BaseModel(unet={}, images="x", training=Training(**GOOD))
    assert second.scheduler["num_train_timesteps"] == 1000


class TestRate:
    @pytest.mark.parametrize("warmup", [0, 1, 7])
    def test_cosine_agrees_with_diffusers(self, warmup: int) -> None:
        """The same curve, except that the warm-up is one step ahead: diffusers' begins at 0."""
        steps = 40
        config = Training(
            steps=steps,
            batch_pairs=1,
            learning_rate=0.3,
            schedule="cosine",
            warmup_steps=warmup,
        )
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        scheduler = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
        theirs = []
        for _ in range(steps + 1):
            theirs.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        for step in range(steps):
            expected = theirs[step + 1] if step < warmup else theirs[step]
            assert config.rate(step) == pytest.approx(expected, rel=1e-12)

    def test_constant_after_a_linear_warm_up(self) -> None:
        config = Training(steps=6, batch_pairs=1, learning_rate=0.8, warmup_steps=4)
        rates = [config.rate(step) for step in range(6)]
        assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])

    @pytest.mark.parametrize(("warmup", "decay_after", "flat"), [(2, 5, 5), (4, 3, 4), (2, 0, 2)])
    def test_the_cosine_begins_where_it_is_told(
        self, warmup: int, decay_after: int, flat: int
    ) -> None:
        """Not before the warm-up is over; the steps before it have the whole rate."""
        config = Training(
            steps=10,
            batch_pairs=1,
            learning_rate=0.4,
            schedule="cosine",
            warmup_steps=warmup,
            decay_after=decay_after,
        )
        assert [config.rate(step) for step in range(warmup, flat + 1)] == [0.4] * (
            flat + 1 - warmup
        )
        middle = flat + (10 - flat) / 2
        expected = 0.4 * (1 + math.cos(math.pi * (int(middle) - flat) / (10 - flat))) / 2
        assert config.rate(int(middle)) == pytest.approx(expected)
        assert config.rate(flat + 1) < 0.4

    def test_every_step_moves_the_weights(self) -> None:
        config = Training(**GOOD | {"schedule": "cosine", "warmup_steps": 3})
        assert all(0 < config.rate(step) <= config.learning_rate for step in range(config.steps))
