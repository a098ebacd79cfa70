"""The models of a project: the first one, and those in its folder of versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.saving import hash_weights
from dataunlearn.requests.records import VERSIONS, Project, Version, VersionState
from dataunlearn.requests.schema import LedgerError
from dataunlearn.unlearning.config import Settings
from dataunlearn.unlearning.parsing import parse_settings

SET_BY_PROJECT = (
    *("model", "forget", "keep", "out", "scheduler", "image_size", "resize", "device"),
    *("drop_overlap", "keep_from", "force", "tracker"),
)


def version_folder(folder: Path, version: Version) -> Path:
    """The run folder of a version; the first model has none."""
    return folder / VERSIONS / version.folder


def open_first(project: Project, device: str) -> DiffusionModel:
    """Load the first model of a project."""
    return load_model(
        project.model,
        scheduler=project.scheduler,
        image_size=project.image_size,
        device=device,
    )


def open_version(
    folder: Path, project: Project, version: Version, device: str | None = None
) -> DiffusionModel:
    """Load the model of a version, and make sure that it is the one in the ledger.

    Args:
        folder: The project's folder.
        project: What its ledger says of it.
        version: The version.
        device: Where to put it; None for the CPU.

    Raises:
        LedgerError: If it was purged, or its weights are others.
    """
    if version.state is VersionState.PURGED:
        raise LedgerError(f"the model of version {version.id} was purged")
    where = device or "cpu"
    if version.parent is None:
        model = open_first(project, where)
    else:
        path = version_folder(folder, version) / "model"
        model = load_model(path, image_size=project.image_size, device=where)
    model.denoiser.eval()
    if version.weights_sha256 and hash_weights(model) != version.weights_sha256:
        raise LedgerError(
            f"the weights of {model.source} are not those of version {version.id} in the ledger: "
            "put the model back"
        )
    return model


def settings_of(project: Project, unlearning: Mapping[str, Any]) -> Settings:
    """The settings of a project's runs.

    Args:
        project: The project.
        unlearning: Settings of ``dataunlearn unlearn``, as a YAML file would hold them.

    Raises:
        ValueError: If one does not exist, does not fit, or is the project's to set.
    """
    for name in SET_BY_PROJECT:
        if name in unlearning:
            raise ValueError(f"unlearning must not give {name}: the project sets it")
    given = {
        **unlearning,
        "scheduler": project.scheduler,
        "image_size": project.image_size,
        "resize": project.resize,
        "drop_overlap": True,
        "force": True,
    }
    try:
        return parse_settings(Settings, given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"unlearning: {error}") from error
