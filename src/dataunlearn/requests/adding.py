"""Put a removal request into a project's ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dataunlearn.data import ImageSet
from dataunlearn.models import DiffusionModel
from dataunlearn.models.pictures import open_for
from dataunlearn.models.saving import hash_weights
from dataunlearn.requests.config import NewProject, NewRequest
from dataunlearn.requests.ledger import Ledger, now
from dataunlearn.requests.making import without
from dataunlearn.requests.models import open_first
from dataunlearn.requests.pictures import copied, lasting_source, named_pictures
from dataunlearn.requests.prompts import memorised_pictures
from dataunlearn.requests.records import NamedPicture, Project, Request
from dataunlearn.requests.schema import LedgerError, has_ledger
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.lock import locked
from dataunlearn.runtime.places import require_outside, require_writable
from dataunlearn.runtime.progress import Say
from dataunlearn.unlearning.generated_keep import generated_count

RETENTION_DAYS = 30


def add_request(
    folder: Path, new: NewRequest, project: NewProject, *, say: Say, device: str = "cpu"
) -> Request:
    """Put a request into a project's ledger; the first one makes the project.

    Args:
        folder: The project's folder.
        new: The request.
        project: What the project is about.
        say: Where lines for a person go.
        device: Where to put the model, whose size the pictures must have.

    Raises:
        ValueError: If the project, the model or the pictures cannot be had, or do not fit.
    """
    require_writable(folder, "--project")
    inputs = {"model": project.model, "keep": project.keep, "images": new.images}
    inputs["prompts"] = None if new.prompts is None else str(new.prompts)
    require_outside(folder, inputs, "--project")
    is_new = not has_ledger(folder)
    if is_new and (project.model is None or project.keep is None):
        raise LedgerError(
            f"{folder} has no ledger yet: its first request says --model and --keep, too"
        )
    with locked(folder, instead=""):
        known = _described(project) if is_new else _known(folder, project)
        model = open_first(known, device)
        if is_new:
            known = replace(known, model_sha256=hash_weights(model))
        images = _asked_for(new, model, known, say)
        if images.remarks:
            say(f"forget: {images.described()}")
        if is_new and generated_count(known.keep) is None:
            keep = open_for(model, known.keep, resize=known.resize, role="keep")
            say(f"keep: {keep.described()}")
            without(keep, images.digests())  # or an error
        pictures = named_pictures(images)
        with Ledger.create(folder, known) if is_new else Ledger(folder) as ledger:
            ledger.require_new(new.reference)
            return _added(ledger, new, (images, pictures), say)


def _asked_for(new: NewRequest, model: DiffusionModel, known: Project, say: Say) -> ImageSet:
    """The pictures that a request is about."""
    if new.images is not None:
        return open_for(model, new.images, resize=known.resize, role="forget")
    assert new.prompts is not None
    model.denoiser.eval()
    return memorised_pictures(model, new.prompts, new.samples_per_prompt, say=say)


def _added(
    ledger: Ledger, new: NewRequest, found: tuple[ImageSet, tuple[NamedPicture, ...]], say: Say
) -> Request:
    images, pictures = found
    copies = len(images) - len(pictures)
    if copies:
        say(f"{copies} of the {len(images)} pictures are the same as others: each counts once.")
    for request, shared in _shared(ledger, pictures):
        state = ", withdrawn" if request.id in ledger.withdrawn else ""
        are = "is" if shared == 1 else "are"
        say(
            f"{shared} of its pictures {are} in request {request.id} "
            f"({request.reference}{state}), too."
        )
    if new.copy or new.images is None:
        source = copied(images, ledger.folder)
    else:
        source = lasting_source(new.images)
    return ledger.add(new.reference, new.reason, new.day, source, pictures)


def _shared(ledger: Ledger, pictures: tuple[NamedPicture, ...]) -> list[tuple[Request, int]]:
    own = {picture.digest for picture in pictures}
    found = [(r, len(own & {p.digest for p in r.pictures})) for r in ledger.requests]
    return [(request, shared) for request, shared in found if shared]


def _described(given: NewProject) -> Project:
    """A project as its first request describes it, without its model's hash."""
    assert given.model is not None
    assert given.keep is not None
    generated_count(given.keep)  # a slip in it is told before the model is loaded
    return Project(
        lasting_source(given.model),
        "",
        lasting_source(given.keep),
        None if given.scheduler is None else lasting_source(given.scheduler),
        given.image_size,
        given.resize,
        now(),
        RETENTION_DAYS if given.retention_days is None else given.retention_days,
    )


def _known(folder: Path, given: NewProject) -> Project:
    """The project in a folder, which must not be described otherwise than it is.

    Raises:
        LedgerError: If it is.
    """
    with Ledger(folder) as ledger:
        project = ledger.project
    for name in ("model", "keep", "scheduler"):
        said = getattr(given, name)
        if said is not None and lasting_source(said) != getattr(project, name):
            raise LedgerError(
                f"the project in {folder} has --{name} {getattr(project, name)}: leave it out, or "
                "choose another --project"
            )
    for name, nothing in (("image_size", None), ("resize", False), ("retention_days", None)):
        said, held = getattr(given, name), getattr(project, name)
        require(
            said in (nothing, held),
            f"the project in {folder} was made with --{name} {held}, which all its requests have: "
            "leave it out, or choose another --project",
        )
    return project
