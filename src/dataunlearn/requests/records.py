"""What a ledger holds, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from dataunlearn.unlearning.verdict import Memory


@dataclass(frozen=True)
class Project:
    """What all requests of a project are about.

    Attributes:
        model: The first model: pipeline folder, unet folder, or hub id.
        model_sha256: Hash of its weights.
        keep: Pictures that every version should still know.
        scheduler: Folder with the scheduler's config, for a bare unet folder.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.
        resize: Whether pictures are cropped and resized to the model's size.
        created: When, in UTC.
        retention_days: Days after which the traces of answered requests may be purged.
    """

    model: str
    model_sha256: str
    keep: str
    scheduler: str | None = None
    image_size: int | None = None
    resize: bool = False
    created: str = ""
    retention_days: int = 30


@dataclass(frozen=True)
class NamedPicture:
    """A picture that a request is about.

    Attributes:
        name: The name it had when the request came.
        digest: SHA-256 over its pixels at the model's size, by which it is found again.
        file_sha256: Of its file, if it has one of its own.
    """

    name: str
    digest: str
    file_sha256: str | None = None


@dataclass(frozen=True)
class Request:
    """A removal request.

    Attributes:
        id: Its number.
        reference: What the person or file that it comes from is called.
        reason: Why, in words.
        received: The day that it came, as YYYY-MM-DD.
        added: When it was put into the ledger, in UTC.
        source: Where its pictures are read from.
        pictures: What it is about.
    """

    id: int
    reference: str
    reason: str
    received: str
    added: str
    source: str
    pictures: tuple[NamedPicture, ...] = field(repr=False)


OWN = "./"
"""Begins a source that lies in the project, wherever that is."""

VERSIONS = "versions"
"""The folder of a project's versions."""


class VersionState(Enum):
    """How far a version is."""

    BEGUN = "begun"  # a run that has not ended
    MADE = "made"
    GIVEN_UP = "given up"  # a run that was begun and is not to be ended
    PURGED = "purged"  # its model was removed


@dataclass(frozen=True)
class Version:
    """A model in the chain.

    Attributes:
        id: Its number; 0 is the first model.
        parent: The version it was made from; None of the first.
        state: How far it is.
        began: When its run began, in UTC.
        weights_sha256: Hash of its weights; empty until made.
        settings: Settings of its run that differ from the defaults.
        requests: Numbers of the requests that it was made for.
        verdict: The run's verdict, as its report has it, and beside it how far the version is from
            the first model ("drift"); empty until made.
        seconds: Of the whole run, and of its parts.
    """

    id: int
    parent: int | None
    state: VersionState
    began: str
    weights_sha256: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    requests: tuple[int, ...] = ()
    verdict: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The name of its folder among the project's versions."""
        return f"{self.id:04d}"


@dataclass(frozen=True)
class Verification:
    """How well one version has forgotten what one request asked for.

    Attributes:
        version: The version.
        request: The request.
        effort: How hard it was tried.
        at: When, in UTC.
        memory: "still known", "as if never seen", "pushed past it" or "cannot tell".
        words: What was found, with the numbers behind it.
        numbers: The same as JSON values.
        seconds: What it took.
    """

    version: int
    request: int
    effort: str
    at: str
    memory: str
    words: str
    numbers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = 0.0

    @property
    def still_known(self) -> bool:
        """Whether the version knows the request's pictures."""
        return self.memory == Memory.STILL_KNOWN.value

    @property
    def may_be_known(self) -> bool:
        """Whether it does, or that cannot be told."""
        return self.memory in (Memory.STILL_KNOWN.value, Memory.CANNOT_TELL.value)


HeadMoved = Literal["made", "accepted", "rolled back"]
"""Why a version became the head: by itself, by a person although its verdict is not good, again."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a project.

    Attributes:
        id: Its number.
        at: When, in UTC.
        what: In a word or two.
        details: JSON values.
        hash: SHA-256 over the event and the hash of the one before.
    """

    id: int
    at: str
    what: str
    details: Mapping[str, Any]
    hash: str
