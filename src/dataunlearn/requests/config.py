"""The settings of ``dataunlearn request``."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dataunlearn.runtime.checks import require
from dataunlearn.verification.config import Effort

MOST_DAYS = 36_500
MOST_DRIFT = 0.2
Decision = Literal["ask", "take", "leave"]


@dataclass(frozen=True)
class NewRequest:
    """A removal request that is to be added: of pictures, or of what prompts have memorised.

    Args:
        reference: What the request is called: a letter's date, a ticket. Each has its own.
        images: The pictures to remove: an image, a folder, .npy, .npz (``file.npz:key``), a saved
            dataset or a dataset id.
        prompts: In place of images, a file of prompts of a text-to-image model: samples of each are
            drawn, and what it draws by heart for them is removed. Copies of these pictures are kept
            in the project, until they are purged.
        samples_per_prompt: Samples that are drawn for each prompt.
        reason: Why, in words.
        received: The day that it came, as YYYY-MM-DD; None for today.
        copy: Keep copies of the pictures in the project, until they are purged. Without, they must
            stay where they are; they are known by their hashes.
    """

    reference: str
    images: str | None = None
    prompts: Path | None = None
    samples_per_prompt: int = 64
    reason: str = ""
    received: str | None = None
    copy: bool = False

    def __post_init__(self) -> None:
        """Check the words and the day."""
        require(bool(self.reference.strip()), "--reference needs a name for the request")
        one = (self.images is None) != (self.prompts is None)
        require(one, "a request names pictures or prompts: give --images, or --prompts")
        require(self.samples_per_prompt >= 4, "samples_per_prompt must be at least 4")
        for name, text in (("reference", self.reference), ("reason", self.reason)):
            require(text.isprintable(), f"--{name} must be one line of printable characters")
        if self.received is not None:
            self._require_day(self.received)

    @staticmethod
    def _require_day(given: str) -> None:
        try:
            day = datetime.date.fromisoformat(given)
        except ValueError:
            day = None
        if day is None or day.isoformat() != given:
            raise ValueError(f"--received takes a day as YYYY-MM-DD, not {given!r}")
        tomorrow = datetime.datetime.now(tz=datetime.UTC).date() + datetime.timedelta(days=1)
        require(day <= tomorrow, f"--received {given} is yet to come")

    @property
    def day(self) -> str:
        """The day that it came."""
        return self.received or datetime.datetime.now(tz=datetime.UTC).date().isoformat()


@dataclass(frozen=True)
class NewProject:
    """What the first request of a project says beside itself.

    Args:
        model: The model: pipeline folder, bare unet folder, or hub id. Needed with a project's
            first request, and the same in every other.
        keep: Pictures that every version should still know; or ``generated:2048`` to let the model
            draw them itself. Likewise.
        scheduler: Folder with the scheduler's config, for a bare unet folder.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.
        resize: Crop and resize pictures to the model's size instead of stopping.
        retention_days: Days after a request was answered from which on ``request purge`` removes
            what still holds its pictures, earlier versions among it; None for 30, or what the
            project has.
    """

    model: str | None = None
    keep: str | None = None
    scheduler: str | None = None
    image_size: int | None = None
    resize: bool = False
    retention_days: int | None = None

    def __post_init__(self) -> None:
        """Check the days."""
        days = self.retention_days
        require(days is None or 0 <= days <= MOST_DAYS, f"retention_days must be 0 to {MOST_DAYS}")


@dataclass(frozen=True)
class Applying:
    """How requests are answered.

    Args:
        unlearning: Settings of ``dataunlearn unlearn`` (steps, strength, objective, lora, ...).
        duplicates: What to do about pictures to keep that look like one to forget: "ask" names them
            and stops, "take" forgets them, too, "leave" keeps them.
        effort: How hard the version is verified, as for ``dataunlearn verify``.
        most_drift: By how much a version may lose more on pictures to keep than the first model,
            as a share, at any noise level; one that certainly loses more is not made the head.
        rehearse: Where a new version knows again what an earlier request asked it to forget, make
            it once more, with those pictures among what it has to forget.
        accept: Make a version the head whatever its verdict, the last one where it is made once
            more.
        restart: Give up a version that an earlier call began and did not end.
    """

    unlearning: dict[str, Any] = field(default_factory=dict)
    duplicates: Decision = "ask"
    effort: Effort = "quick"
    most_drift: float = MOST_DRIFT
    rehearse: bool = True
    accept: bool = False
    restart: bool = False

    def __post_init__(self) -> None:
        """Check the limit."""
        good = math.isfinite(self.most_drift) and self.most_drift > 0
        require(good, f"most_drift must be above 0, not {self.most_drift}")
