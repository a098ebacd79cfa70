"""Range checks shared by objectives."""

from __future__ import annotations


def check_lam(lam: float) -> None:
    """Refuse a mixture share outside [0, 1].

    Raises:
        ValueError: If ``lam`` is not a number from 0 to 1.
    """
    if not 0 <= lam <= 1:
        raise ValueError(f"lam is the forget samples' share of the mixture, from 0 to 1, not {lam}")
