"""Numbers of an audit that cannot be."""

from __future__ import annotations

from dataclasses import fields

import pytest

from dataunlearn.metrics.audit.config import AuditSettings

NUMBERS = [field.name for field in fields(AuditSettings) if field.type in ("int", "float | None")]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, -(2**63)])
def test_none_may_be_negative(name: str, value: int) -> None:
    """Each is named; nothing has been written then."""
    with pytest.raises(ValueError, match=name):
        AuditSettings(**{name: value})
