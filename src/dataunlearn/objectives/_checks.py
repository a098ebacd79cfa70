"""Range checks shared by objectives."""

from __future__ import annotations

from typing import Literal, get_args

Conditioning = Literal["equal", "keep", "forget"]


def check_conditioning(choice: str) -> None:
    """Refuse an unknown choice of conditioning.

    Raises:
        ValueError: If ``choice`` is none of "equal", "keep", "forget".
    """
    if choice not in get_args(Conditioning):
        known = ", ".join(get_args(Conditioning))
        raise ValueError(f"conditioning is one of {known}, not {choice!r}")


def check_lam(lam: float) -> None:
    """Refuse a mixture share outside [0, 1].

    Raises:
        ValueError: If ``lam`` is not a number from 0 to 1.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam is the forget samples' share of the mixture, from 0 to 1, not {lam}")
