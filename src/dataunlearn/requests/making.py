"""Make a version: the run, its verification and its signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from dataunlearn.data import ImageSet, SubsetImages
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.pictures import open_for
from dataunlearn.models.saving import hash_weights
from dataunlearn.requests.config import MOST_DRIFT
from dataunlearn.requests.drift import drift_of
from dataunlearn.requests.ledger import Ledger
from dataunlearn.requests.models import open_version, settings_of, version_folder
from dataunlearn.requests.pictures import found_again, joined, those_with
from dataunlearn.requests.records import Project, Request, Verification, Version, VersionState
from dataunlearn.requests.schema import LedgerError
from dataunlearn.requests.screening import FEWEST, groups, looked_at, screened
from dataunlearn.requests.verifying import Verifier
from dataunlearn.runtime.own_files import FINISHED_FILE, drop_checkpoints
from dataunlearn.runtime.places import named_file
from dataunlearn.runtime.progress import Say
from dataunlearn.runtime.sealed import read_sealed
from dataunlearn.runtime.settings import describe
from dataunlearn.runtime.signing import sign_folder, signing_key
from dataunlearn.unlearning.config import Settings
from dataunlearn.unlearning.generated_keep import generated_count, generated_images
from dataunlearn.unlearning.job import Job, prepare_with
from dataunlearn.unlearning.run import run_job
from dataunlearn.unlearning.sources import Sources
from dataunlearn.verification.config import Effort

MOST_NAMED = 3  # requests in a report's title


def without(images: ImageSet, digests: Sequence[str]) -> ImageSet:
    """A set without the pictures that have these digests.

    Raises:
        LedgerError: If none is left.
    """
    unwanted = set(digests)
    rows = [row for row, digest in enumerate(images.digests()) if digest not in unwanted]
    if not rows:
        raise LedgerError("every picture to keep is to be forgotten: nothing is left to keep")
    return images if len(rows) == len(images) else SubsetImages(images, rows)


@dataclass(frozen=True, eq=False)
class Maker:
    """Makes versions of a project.

    Attributes:
        ledger: The project's.
        accelerator: The device.
        say: Where lines for a person go.
        effort: How hard versions are verified.
        most_drift: By how much a version may lose more on pictures to keep than the first model.
        shown: Whether to draw progress.
    """

    ledger: Ledger
    accelerator: Accelerator
    say: Say
    effort: Effort = "quick"
    most_drift: float = MOST_DRIFT
    shown: bool = True
    _opened: dict[int, DiffusionModel] = field(default_factory=dict)
    _kept: dict[int, ImageSet] = field(default_factory=dict)
    _judges: dict[int, tuple[DiffusionModel, Verifier]] = field(default_factory=dict)

    def make(self, version: Version) -> Version:
        """Run a version to its end, if it has not come there yet; with what it came to."""
        folder = version_folder(self.ledger.folder, version)
        if not (folder / FINISHED_FILE).is_file():
            self._run(version, folder)
        drop_checkpoints(folder)
        facts = read_sealed(folder / "report.json", needs_seal=True)
        self._require_own(version, facts)
        model = load_model(folder / "model", device=str(self.accelerator.device))
        seconds = {
            "run": facts["seconds"],
            "training": facts["unlearn_seconds"],
            "measuring": facts["measure_seconds"],
        }
        return replace(
            version,
            weights_sha256=hash_weights(model),
            verdict=facts["verdict"] | self._drift(version, model),
            seconds=seconds,
        )

    def _drift(self, version: Version, model: DiffusionModel) -> dict[str, Any]:
        """How far a version's model is from the first one; empty where that one is gone."""
        settings = settings_of(self.ledger.project, version.settings.get("unlearning", {}))
        try:
            first = self._first
        except (OSError, ValueError) as error:
            self.say(f"How far version {version.id} is from the first model is unknown: {error}")
            return {}
        keep = self._keep_after(model, settings, version)
        drift = drift_of(first, model, keep, self.most_drift, settings.evaluation.seed)
        self.say(f"Version {version.id}: {drift.words}.")
        return {"drift": drift.as_json()}

    @cached_property
    def _first(self) -> DiffusionModel:
        ledger = self.ledger
        device = str(self.accelerator.device)
        return open_version(ledger.folder, ledger.project, ledger.version(0), device)

    def _require_own(self, version: Version, facts: Mapping[str, Any]) -> None:
        """Refuse a run that was about other pictures.

        Raises:
            LedgerError: If it was.
        """
        requests = [self.ledger.request(number) for number in version.requests]
        wanted = {picture.digest for request in requests for picture in request.pictures}
        if not wanted <= set(facts["forget"]["digests"]):
            folder = version_folder(self.ledger.folder, version)
            raise LedgerError(
                f"{folder} holds a run about other pictures: move it away, and give "
                "request apply --restart"
            )

    def verify(self, version: Version, requests: Sequence[Request]) -> list[Verification]:
        """Verify requests one by one in a version that was made."""
        known, purged = self._with_pictures(requests)
        for request in purged:
            self.say(f"Request {request.id} cannot be verified: its pictures were purged.")
        if not known:
            return []
        after, verifier = self._judging(version)
        answered = {**self.ledger.answered, **dict.fromkeys(version.requests, version.id)}
        found = []
        for request in known:
            images = found_again(after, self.ledger.project, request)
            before = self._before(answered[request.id])
            verified = verifier.verify(version, (before, after), request, images)
            self.say(f"Request {request.id} ({request.reference}): {verified.memory}.")
            found.append(verified)
        return found

    def verify_earlier(self, version: Version, requests: Sequence[Request]) -> list[Verification]:
        """Verify earlier requests again: all together first, then those that are not clear."""
        known, _ = self._with_pictures(requests)
        if len(known) < FEWEST or self.effort != "quick":
            return self.verify(version, requests)
        try:
            first = self._first
        except (OSError, ValueError):
            return self.verify(version, requests)
        after, verifier = self._judging(version)
        clear: list[Verification] = []
        for group in groups(known):
            parts = [found_again(after, self.ledger.project, request) for request in group]
            subject = verifier.subject((first, after), joined(parts))
            clear += screened(subject, looked_at(subject), version, group)
        done = {each.request for each in clear}
        self.say(f"{len(clear)} of {len(known)} earlier requests are clear: looked at together.")
        return [*clear, *self.verify(version, [each for each in requests if each.id not in done])]

    def _judging(self, version: Version) -> tuple[DiffusionModel, Verifier]:
        """The model of a version that was made, and what verifies it."""
        if version.id not in self._judges:
            ledger, project = self.ledger, self.ledger.project
            settings = settings_of(project, version.settings.get("unlearning", {}))
            after = open_version(ledger.folder, project, version, str(self.accelerator.device))
            keep = self._keep_after(after, settings, version)
            verifier = Verifier(settings, keep, project.keep, self.effort, self.shown)
            self._judges.clear()  # one at a time: models may be large
            self._judges[version.id] = after, verifier
        return self._judges[version.id]

    def _with_pictures(self, requests: Sequence[Request]) -> tuple[list[Request], list[Request]]:
        """The requests whose pictures are there, and those whose pictures were purged."""
        lacking = [request for request in requests if self._without_pictures(request)]
        return [request for request in requests if request not in lacking], lacking

    def _without_pictures(self, request: Request) -> bool:
        """Whether a request's pictures were purged, and lie nowhere else."""
        purged = request.id in self.ledger.purged
        return purged and named_file(request.source) is None

    def sign(self, version: Version, verified: Sequence[Verification]) -> None:
        """Sign all files of a version, with what verifying it found."""
        folder = version_folder(self.ledger.folder, version)
        requests = [self.ledger.request(number) for number in version.requests]
        facts = {
            "version": version.id,
            "parent": version.parent,
            "weights_sha256": version.weights_sha256,
            "requests": [describe(request) for request in requests],
            "verdict": version.verdict.get("text", ""),
            "verifications": [describe(each) for each in verified],
            "ledger": self.ledger.events[-1].hash,
        }
        sign_folder(folder, signing_key(self.ledger.folder), facts)

    def _run(self, version: Version, folder: Path) -> None:
        ledger, project = self.ledger, self.ledger.project
        settings = settings_of(project, version.settings.get("unlearning", {}))
        parent = ledger.version(version.parent or 0)
        model = open_version(ledger.folder, project, parent, str(self.accelerator.device))
        job = self._job(model, project, settings, version)
        numbers = ", ".join(str(number) for number in version.requests)
        self.say(f"Version {version.id}, for request {numbers}, from version {parent.id}:")
        run_job(job, out=folder, say=self.say, accelerator=self.accelerator, shown=self.shown)

    def _job(
        self, model: DiffusionModel, project: Project, settings: Settings, version: Version
    ) -> Job:
        """What a version's run is: its requests' pictures, duplicates, what is rehearsed."""
        numbers = [*version.requests, *version.settings.get("rehearsed", [])]
        parts = [found_again(model, project, self.ledger.request(number)) for number in numbers]
        keep = self._keep(model, project, settings, version)
        twins = set(version.settings.get("duplicates", []))
        if twins:
            every = open_for(model, project.keep, resize=project.resize, role="keep")
            parts.append(those_with(every, twins))
        job = prepare_with(model, settings, joined(parts), keep, shown=self.shown)
        words = f"request {', '.join(str(number) for number in numbers)} of the project's ledger"
        own = [self.ledger.request(number) for number in version.requests]
        title = "; ".join(f"Request {each.id}: {each.reference}" for each in own[:MOST_NAMED])
        title += f"; {len(own) - MOST_NAMED} more" if len(own) > MOST_NAMED else ""
        job = replace(job, sources=Sources(words, project.keep, f"{title} (version {version.id})"))
        return job if settings.anchor is None else replace(job, anchored_to=self._first)

    def _keep_after(self, model: DiffusionModel, settings: Settings, version: Version) -> ImageSet:
        """What a version that was made is judged by; its own pictures, if it draws them."""
        if version.id not in self._kept:
            self._kept[version.id] = self._keep(model, self.ledger.project, settings, version)
        return self._kept[version.id]

    def _keep(
        self, model: DiffusionModel, project: Project, settings: Settings, version: Version
    ) -> ImageSet:
        """The pictures to keep, without those of any request that is answered by then."""
        gone = set(version.settings.get("duplicates", []))
        answered = {*self.ledger.answered, *version.requests}
        requests = [self.ledger.request(number) for number in answered]
        for request in requests:
            gone |= {picture.digest for picture in request.pictures}
        for earlier in self.ledger.chain:
            gone |= set(earlier.settings.get("duplicates", []))
        count = generated_count(project.keep)
        if count is not None:
            parts = [found_again(model, project, request) for request in requests]
            return generated_images(model, joined(parts), count, seed=settings.seed)
        return without(open_for(model, project.keep, resize=project.resize), sorted(gone))

    def _before(self, number: int) -> DiffusionModel:
        """The model before a version: it still knows what that version had to forget."""
        if number not in self._opened:
            ledger = self.ledger
            version = ledger.version(number)
            parent = version if version.parent is None else ledger.version(version.parent)
            while parent.parent is not None and parent.state is VersionState.PURGED:
                parent = ledger.version(parent.parent)  # which knows it, too
            device = str(self.accelerator.device)
            self._opened.clear()  # one at a time: they may be large
            self._opened[number] = open_version(ledger.folder, ledger.project, parent, device)
        return self._opened[number]
