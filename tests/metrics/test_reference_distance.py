"""Distance to a reference: losses and predictions of two models on the same noisy pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.never_seen import different_pictures
from dataunlearn.metrics.reference_distance import ReferenceDistance, compare
from dataunlearn.recognition.witness import Pictures, Witness


def witness(process: Any, factor: float) -> Witness:
    def ask(noisy: torch.Tensor, t: torch.Tensor, cond: Any) -> torch.Tensor:
        return factor * noisy + (0 if cond is None else cond.reshape(-1, 1, 1, 1))

    return Witness(ask, process, seed=4, num_draws=3)


def test_against_a_slow_loop(make_process: Any) -> None:
    """Noise epsilon, predictions 0.5 and 0.8 times the noisy picture, plus each its own label."""
    process = make_process()
    clean = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    own, theirs = (Pictures(clean, torch.tensor(label)) for label in ([0.0, 0.1], [0.2, 0.0]))
    model, reference = witness(process, 0.5), witness(process, 0.8)
    found = compare(model, reference, (own, theirs), (100, 500))
    for row in range(2):
        for column, t in enumerate((100, 500)):
            sums = torch.zeros(3, dtype=torch.float64)
            for draw in range(3):
                noise = model.noise((1, 4, 4), t, draw)
                noisy = process.add_noise(clean[row : row + 1], noise, torch.tensor([t]))
                first, second = 0.5 * noisy + own.cond[row], 0.8 * noisy + theirs.cond[row]
                pairs = ((first, noise), (second, noise), (first, second))
                sums += torch.stack([(a - b).double().square().mean() for a, b in pairs])
            values = torch.stack(
                [each[row, column] for each in (found.losses, found.reference, found.apart)]
            )
            torch.testing.assert_close(values, sums / 3)


@pytest.fixture
def inputs(make_model: Any, make_images: Any) -> Inputs:
    return Inputs(
        make_model(0), forget=make_images(3), reference=make_model(1), seed=2, shown=False
    )


def test_a_model_is_no_way_from_itself(inputs: Inputs) -> None:
    results = ReferenceDistance(num_draws=1)(replace(inputs, reference=inputs.model))
    for result in results:
        expected = 1.0 if result.name.startswith("loss_over_reference") else 0.0
        assert result.value == expected
        assert result.interval == (expected, expected)


def test_names_intervals_and_items(inputs: Inputs) -> None:
    results = {result.name: result for result in ReferenceDistance()(inputs)}
    kinds = ("loss_over_reference", "distance_to_reference")
    assert set(results) == {f"{kind}_{t}" for kind in kinds for t in (100, 200, 300, 400, 500)}
    apart = results["distance_to_reference_300"]
    low, high = apart.interval or (1.0, 0.0)
    assert 0 < low <= apart.value <= high
    assert apart.per_item is not None and len(apart.per_item) == 3
    assert inputs.forget is not None
    assert len(different_pictures(inputs.model, inputs.forget)) == 3


def test_it_needs_a_reference(inputs: Inputs) -> None:
    ReferenceDistance().check(inputs)
    with pytest.raises(ValueError, match="reference"):
        ReferenceDistance().check(replace(inputs, reference=None))
