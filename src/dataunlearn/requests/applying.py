"""Answer the open requests of a project: a run that makes a version, verified and signed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from dataunlearn.data import ImageSet
from dataunlearn.models import DiffusionModel
from dataunlearn.models.pictures import open_for
from dataunlearn.requests.config import Applying
from dataunlearn.requests.drift import is_too_far
from dataunlearn.requests.duplicates import Duplicate, near_duplicates
from dataunlearn.requests.ledger import Ledger, held_ledger
from dataunlearn.requests.making import Maker, without
from dataunlearn.requests.models import open_version, settings_of
from dataunlearn.requests.pictures import found_again
from dataunlearn.requests.records import HeadMoved, Request, Verification, Version
from dataunlearn.requests.schema import LedgerError
from dataunlearn.requests.verifying import Verifier
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.progress import Say
from dataunlearn.unlearning.generated_keep import generated_count, generated_images

_MOST_NAMED = 10


@dataclass(frozen=True)
class Applied:
    """What answering the open requests came to.

    Attributes:
        version: The version that was made; None where nothing was to be done.
        accepted: Whether it is the head now.
        verified: What verifying found, of its own requests and earlier ones.
        unknown: What was found of requests whose pictures the model did not know.
    """

    version: Version | None
    accepted: bool = True
    verified: tuple[Verification, ...] = ()
    unknown: tuple[Verification, ...] = ()


def apply_requests(
    folder: Path, how: Applying, *, accelerator: Accelerator, say: Say, shown: bool = True
) -> Applied:
    """Answer a project's open requests by one run, or go on with one that was begun.

    Args:
        folder: The project's folder.
        how: Settings.
        accelerator: The device; one process.
        say: Where lines for a person go.
        shown: Whether to draw progress.

    Raises:
        LedgerError: If there is no project, near-duplicates want a decision, or a run that was
            begun had other settings.
        ValueError: As :func:`dataunlearn.unlearning.run.run_job`.
    """
    require(
        accelerator.num_processes == 1,
        "request apply is one process: start it without torchrun or accelerate launch",
    )
    with held_ledger(folder) as ledger:
        begun = ledger.begun
        applying = _Applying(ledger, how, accelerator, say, shown)
        if begun is None or how.restart:
            return applying.anew(begun)
        applying.require_same(begun)
        applying.require_seen(begun)
        return applying.ended(begun)


@dataclass(frozen=True, eq=False)
class _Applying:
    """One call of ``request apply``."""

    ledger: Ledger
    how: Applying
    accelerator: Accelerator
    say: Say
    shown: bool

    def anew(self, instead: Version | None) -> Applied:
        """Begin a version for the open requests, and end it.

        Args:
            instead: A version that was begun and is given up for it, once it can begin; or None.
        """
        waiting = self.ledger.open
        if not waiting:
            self.say("No request is open.")
            return Applied(None)
        made = self._made_before([request.id for request in waiting])
        if made is not None and self.how.accept and instead is None:
            self._require_made_so(made, "without --accept another version is made")
            self.ledger.move_head(made, "accepted")
            return Applied(made, True, tuple(self.ledger.verifications(version=made.id)))
        if self.how.accept and instead is None:
            self.say("No version was made for these requests: one is, and --accept takes it.")
        known, unknown = self._known_ones(waiting)
        if not known:
            self._give_up(instead)
            return Applied(None, True, (), unknown)
        found = self._with_duplicates(known)
        plan = self._plan(found)
        self._give_up(instead)
        version = self.ledger.begin([request.id for request in known], plan)
        done = self.ended(version)
        return Applied(done.version, done.accepted, done.verified, unknown)

    def _give_up(self, version: Version | None) -> None:
        if version is not None:
            self.ledger.give_up(version)
            self.say(f"Version {version.id} is given up.")

    def ended(self, version: Version) -> Applied:
        """Make and verify a version; once more where earlier requests came back."""
        maker = self._maker
        made = maker.make(version)
        own = [self.ledger.request(number) for number in version.requests]
        others = sorted({*self.ledger.answered} - {*version.requests})
        verified = maker.verify(made, own)
        verified += maker.verify_earlier(made, [self.ledger.request(number) for number in others])
        verified.sort(key=lambda each: each.request)
        back = [v.request for v in verified if v.still_known]
        earlier = [number for number in back if number not in version.requests]
        good = made.verdict.get("exit_code") == 0 and not back and not is_too_far(made.verdict)
        again = earlier and self.how.rehearse and not version.settings.get("rehearsed")
        accepted = good or (self.how.accept and not again)
        maker.sign(made, verified)
        why: HeadMoved = "made" if good else "accepted"
        self.ledger.conclude(made, verified, head=why if accepted else None)
        if accepted or not again:
            return Applied(self.ledger.version(made.id), accepted, tuple(verified))
        names = ", ".join(str(number) for number in earlier)
        self.say(f"The pictures of request {names} came back: making it again, with them.")
        with_them = {**version.settings, "rehearsed": earlier}
        return self.ended(self.ledger.begin(version.requests, with_them))

    def require_same(self, begun: Version) -> None:
        """Refuse to go on with a version under other settings; those left out are as they were.

        Raises:
            LedgerError: If they are others.
        """
        self._require_made_so(begun, "--restart gives it up")
        self.say(
            f"Going on with version {begun.id}, which was begun with {_plan_words(begun)} and not "
            "ended."
        )

    def require_seen(self, begun: Version) -> None:
        """Refuse to take a version that was not begun to be taken, and has not ended.

        Raises:
            LedgerError: If it is to be.
        """
        if self.how.accept and not begun.settings.get("accept"):
            raise LedgerError(
                f"version {begun.id} has not ended, and nobody has seen what it comes to: end it "
                "without --accept"
            )

    def _require_made_so(self, version: Version, else_do: str) -> None:
        plan, how = version.settings, self.how
        other = how.unlearning and how.unlearning != plan.get("unlearning", {})
        other = other or (how.duplicates != "ask" and how.duplicates != plan.get("decision"))
        if other:
            raise LedgerError(
                f"version {version.id} was begun with {_plan_words(version)}: give the same, or "
                f"leave them out; {else_do}"
            )

    def _plan(self, duplicates: Sequence[str]) -> dict[str, Any]:
        how = self.how
        decision = {"duplicates": list(duplicates), "decision": how.duplicates}
        accept = {"accept": True} if how.accept else {}
        return {"unlearning": how.unlearning, **decision, **accept}

    def _made_before(self, requests: list[int]) -> Version | None:
        """The last version that was made of the head for these requests, and not accepted."""
        head = self.ledger.head.id
        found = [
            version
            for version in self.ledger.versions
            if version.parent == head
            and list(version.requests) == requests
            and version.weights_sha256
        ]
        return found[-1] if found else None

    @cached_property
    def _maker(self) -> Maker:
        how = self.how
        return Maker(
            self.ledger, self.accelerator, self.say, how.effort, how.most_drift, self.shown
        )

    @cached_property
    def _head(self) -> DiffusionModel:
        device = str(self.accelerator.device)
        ledger = self.ledger
        return open_version(ledger.folder, ledger.project, ledger.head, device)

    @cached_property
    def _sides(self) -> dict[int, tuple[ImageSet, ImageSet]]:
        """The pictures of each open request, and those to keep, by its number."""
        project = self.ledger.project
        seed = settings_of(project, self.how.unlearning).seed
        count, every, found = generated_count(project.keep), None, {}
        if count is None:
            every = open_for(self._head, project.keep, resize=project.resize, role="keep")
        for request in self.ledger.open:
            images = found_again(self._head, project, request)
            if every is not None:
                keep = without(every, images.digests())
            else:
                assert count is not None
                keep = generated_images(self._head, images, count, seed=seed)
            found[request.id] = images, keep
        return found

    def _known_ones(self, waiting: list[Request]) -> tuple[list[Request], tuple[Verification, ...]]:
        """The requests whose pictures the head knows; the others are answered by it as it is."""
        ledger, project = self.ledger, self.ledger.project
        settings = settings_of(project, self.how.unlearning)
        known, unknown = [], []
        for request in waiting:
            images, keep = self._sides[request.id]
            verifier = Verifier(settings, keep, project.keep, shown=self.shown)
            by = verifier.known_by(self._head, images)
            if by is not None:
                self.say(f"Request {request.id}: the model knows its pictures: {by}.")
                known.append(request)
                continue
            found = verifier.verify(ledger.head, (self._head, self._head), request, images)
            if found.may_be_known:
                may = "knows" if found.still_known else "may know"
                self.say(f"Request {request.id}: the model {may} its pictures: {found.words}.")
                known.append(request)
                continue
            self.say(f"Request {request.id}: the model does not know its pictures; {found.words}.")
            unknown.append(found)
        if unknown:
            ledger.nothing_to_forget(unknown)
        return known, tuple(unknown)

    def _with_duplicates(self, requests: list[Request]) -> list[str]:
        """The digests of pictures to keep that are to be forgotten, too.

        Raises:
            LedgerError: If there are some that look like one to forget, and nobody has decided.
        """
        found: dict[str, Duplicate] = {}
        for request in requests:
            images, keep = self._sides[request.id]
            for each in near_duplicates(images, keep, shown=self.shown):
                found.setdefault(keep.digest(each.row), each)
        if not found or self.how.duplicates == "leave":
            return []
        lines = [f"  {each.words}" for each in list(found.values())[:_MOST_NAMED]]
        more = f"\n  and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        said = f"{len(found)} pictures to keep look like one to forget:\n" + "\n".join(lines) + more
        if self.how.duplicates == "ask":
            raise LedgerError(
                f"{said}\n--duplicates take forgets them, too; --duplicates leave keeps them"
            )
        self.say(f"{said}\nThey are forgotten, too.")
        return list(found)


def _plan_words(version: Version) -> str:
    """The settings of a version as they are typed."""
    given, decision = version.settings.get("unlearning"), version.settings.get("decision")
    words = f"--unlearning '{json.dumps(given)}'" if given else "no --unlearning"
    return words if decision in (None, "ask") else f"{words} and --duplicates {decision}"
