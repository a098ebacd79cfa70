"""Numbers of an audit that cannot be."""

from __future__ import annotations

from dataclasses import fields

import pytest

from dataunlearn.metrics.audit.config import AuditSettings
from dataunlearn.training.config import MOST_STEPS, Training

NUMBERS = [field.name for field in fields(AuditSettings) if field.type in ("int", "float | None")]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, -(2**63)])
def test_none_may_be_negative(name: str, value: int) -> None:
    """Each is named; nothing has been written then."""
    with pytest.raises(ValueError, match=name):
        AuditSettings(**{name: value})


def test_no_training_takes_more_steps_than_any_could() -> None:
    assert Training(steps=MOST_STEPS, batch_pairs=1, learning_rate=1e-4).steps == MOST_STEPS
    with pytest.raises(ValueError, match="steps must be at most 1,000,000,000, not"):
        Training(steps=2**63, batch_pairs=1, learning_rate=1e-4)
