"""The two calls that a user needs: unlearn and audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataunlearn.data.opening import ImageSource
from dataunlearn.metrics.audit.audit import AuditedImage, audit_images
from dataunlearn.metrics.audit.config import AuditSettings
from dataunlearn.metrics.audit.run import run_audit
from dataunlearn.models import DiffusionModel, load_model
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.loading import best_device, check_device
from dataunlearn.models.parts import as_they_were, require_no_adapters, widened
from dataunlearn.models.pictures import open_for
from dataunlearn.objectives import Counterfactual, Objective
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.home import home_path
from dataunlearn.runtime.run_folder import check_run_dir
from dataunlearn.unlearning.config import Settings
from dataunlearn.unlearning.job import prepare_with
from dataunlearn.unlearning.run import UnlearnResult, run_job


def unlearn(
    pipeline: Any,
    *,
    forget: ImageSource,
    keep: ImageSource,
    objective: Objective | None = None,
    out: str | Path | None = None,
    shown: bool = True,
    **settings: Any,
) -> UnlearnResult:
    """Remove images from a diffusion pipeline; the same code path as ``dataunlearn unlearn``.

    Args:
        pipeline: A diffusers pipeline around a ``UNet2DModel``, or a text-to-image one (changed
            in place, and made float32), or the folder or hub id of one. Adapters must be merged.
        forget: Images to forget: a path, an array or tensor ``(N, H, W)``, ``(N, H, W, C)`` or
            ``(N, C, H, W)`` as uint8 or in [0, 1], a pillow image or a list of them.
        keep: Images to keep, likewise; or ``"generated:2048"``.
        objective: The method; Counterfactual by default.
        out: Folder for the new model, the log and the report; None keeps everything in memory.
        shown: Whether to draw progress bars.
        **settings: Any field of :class:`dataunlearn.unlearning.config.Settings`, for
            example ``steps=100`` or ``combination=NormFix(ratio=0.2)``.

    Returns:
        The pipeline and the measurements before and after.

    Raises:
        ValueError: On bad input, before any training.
        NotMemorisedError: If the model does not reproduce the forget images (``force=True`` goes
            on).
    """
    config = Settings(objective=objective or Counterfactual(), **settings)
    require(config.tracker is None, "trackers are the command's: leave out tracker")
    folder = home_path(out) if out is not None else None
    if folder is not None:
        names = {"pipeline": pipeline, "forget": forget, "keep": keep}
        check_run_dir(folder, inputs={**names, "reference": config.reference})
    with as_they_were(pipeline):
        model = opened(
            pipeline,
            scheduler=config.scheduler,
            image_size=config.image_size,
            device=config.device,
        )
        require_no_adapters(model.pipeline, model.source)
        job = prepare_with(model, config, forget, keep, shown=shown)
        result = run_job(job, out=folder, say=lambda text: None, shown=shown)
    assert result is not None  # only the side processes of a distributed run return nothing
    return result


def audit(
    pipeline: Any,
    images: ImageSource,
    *,
    keep: ImageSource | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    resize: bool = False,
    shown: bool = True,
    **settings: Any,
) -> list[AuditedImage]:
    """Find out which images a model knows by heart; the same code path as ``dataunlearn audit``.

    Args:
        pipeline: As for :func:`unlearn`; it is not changed.
        images: The images in question, in any form that :func:`unlearn` takes.
        keep: Training images, to calibrate on and to search for near-duplicates; or None.
        out: Folder for the gallery and the numbers; None keeps everything in memory.
        device: Where to put a model that is loaded here; None takes the best device there is.
        resize: Crop and resize images to the model's size instead of stopping.
        shown: Whether to draw progress bars.
        **settings: Fields of :class:`dataunlearn.metrics.audit.config.AuditSettings`.

    Returns:
        What was found out about each different image, in the order given.

    Raises:
        ValueError: On bad input, before any work.
    """
    chosen = AuditSettings(**settings)
    if out is not None:
        names = {"pipeline": pipeline, "images": images, "keep": keep}
        check_run_dir(home_path(out), inputs=names)
    in_memory = not isinstance(pipeline, (str, Path))
    with as_they_were(pipeline):
        model = opened(widened(pipeline) if in_memory else pipeline, device=device)
        model.denoiser.eval()
        return _audited(model, images, keep, chosen, out, resize=resize, shown=shown)


def _audited(
    model: DiffusionModel,
    images: ImageSource,
    keep: ImageSource | None,
    chosen: AuditSettings,
    out: str | Path | None,
    *,
    resize: bool,
    shown: bool,
) -> list[AuditedImage]:
    questioned = open_for(model, images, resize=resize, role="audited")
    kept = None if keep is None else open_for(model, keep, resize=resize, role="keep")
    if out is None:
        return audit_images(model, questioned, keep=kept, settings=chosen, shown=shown)
    return run_audit(model, questioned, kept, chosen, home_path(out), shown=shown)


def opened(
    pipeline: Any,
    *,
    scheduler: str | None = None,
    image_size: int | None = None,
    device: str | None = None,
) -> DiffusionModel:
    """A pipeline in memory, wrapped, or the one in a folder or of a hub id, loaded.

    Args:
        pipeline: As for :func:`unlearn`.
        scheduler: Folder with the scheduler's config, for a bare unet folder.
        image_size: Pixels of a side that a text-to-image model works at; None for its own.
        device: Where to put it; None leaves a pipeline in memory where it is, and takes the best
            there is for another.
    """
    if device is not None:
        check_device(device)
    if not isinstance(pipeline, (str, Path)):
        require(scheduler is None, "a pipeline in memory has its scheduler: leave out scheduler")
        model = wrap_pipeline(pipeline, image_size=image_size)
        return model if device is None else model.to(device)
    return load_model(
        str(pipeline), scheduler=scheduler, image_size=image_size, device=device or best_device()
    )
