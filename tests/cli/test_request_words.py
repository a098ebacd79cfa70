"""What ``request apply`` says of options that ``unlearn`` has."""

from __future__ import annotations

import pytest

from dataunlearn.cli.request_verbs import as_apply_takes_it


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "at least 64 are needed (--evaluation.num_samples).",
            """at least 64 are needed (--unlearning '{"evaluation": {"num_samples": ...}}').""",
        ),
        ("give --force to unlearn", """give --unlearning '{"force": ...}' to unlearn"""),
        ("--strength strong, or", """--unlearning '{"strength": "strong"}', or"""),
        ("--steps 120.", """--unlearning '{"steps": 120}'."""),
        ("--drop_overlap true", """--unlearning '{"drop_overlap": true}'"""),
        ("--accept, --project DIR, request add --keep", None),
        ("""--unlearning '{"strength": "strong"}'""", None),
        ("no option - or --, nor --no_such", None),
    ],
)
def test_options_of_unlearn_are_named_as_apply_takes_them(said: str, told: str | None) -> None:
    assert as_apply_takes_it(said) == (said if told is None else told)
