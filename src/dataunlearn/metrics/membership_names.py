"""The names of the membership scores."""

from __future__ import annotations

from typing import Literal

Attack = Literal["loss", "sima", "pia", "secmi", "inversion"]
