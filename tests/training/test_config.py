"""Numbers of a training that cannot be."""

from __future__ import annotations

import pytest

from dataunlearn.training.config import MOST_PAIRS, MOST_STEPS, Training


def test_no_training_takes_more_than_any_could() -> None:
    most = Training(steps=MOST_STEPS, batch_pairs=MOST_PAIRS, learning_rate=1e-4)
    assert (most.steps, most.batch_pairs) == (10**9, 10**6)
    with pytest.raises(ValueError, match="steps must be at most 1,000,000,000, not"):
        Training(steps=2**63, batch_pairs=1, learning_rate=1e-4)
    with pytest.raises(ValueError, match="batch_pairs must be at most 1,000,000, not"):
        Training(steps=1, batch_pairs=10**12, learning_rate=1e-4)
