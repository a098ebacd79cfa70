"""What the verbs that change or draw do: build a configuration, call the library, say the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dataunlearn.cli import runs
from dataunlearn.cli.accelerator import make_accelerator
from dataunlearn.cli.runs import say
from dataunlearn.runtime.exit_codes import NOT_FORGOTTEN

if TYPE_CHECKING:
    from dataunlearn.models.loading import ModelSource

MOST_SAMPLES = 100_000
Device = Literal["cpu", "cuda", "mps"]


def demo(
    out: Path = Path("runs/demo"),
    steps: int | None = None,
    num_samples: int = 512,
    regeneration_copies: int = 64,
    seed: int = 0,
    siss: bool = True,
    device: Device | None = None,
    overwrite: bool = False,
) -> int:
    """Unlearn a T-shirt from the small MNIST model that ships with the package.

    By the default method, and then with SISS (Alberti et al. 2025), which stands beside it in the
    report, as does a model that never saw the T-shirt.

    Args:
        out: Folder for the new model and the report.
        steps: Optimizer steps; None takes the default, and 100 with SISS.
        num_samples: Samples drawn before and after.
        regeneration_copies: Tries per noise level.
        seed: Names every random draw.
        siss: Unlearn with SISS, too; its model is in ``siss`` in the folder.
        device: cpu, cuda or mps; None takes the best there is.
        overwrite: Replace a run in ``out``.
    """
    from dataunlearn.recipes.demo import demo as demo_recipe
    from dataunlearn.recipes.demo import with_siss
    from dataunlearn.report.run_files import write_report
    from dataunlearn.runtime.run_folder import check_run_dir

    config = demo_recipe(out)
    evaluation = dataclasses.replace(
        config.evaluation, num_samples=num_samples, regeneration_copies=regeneration_copies
    )
    config = dataclasses.replace(
        config, steps=steps, seed=seed, device=device, evaluation=evaluation
    )
    if siss:
        check_run_dir(with_siss(config).out, overwrite=overwrite)
    result = runs.unlearned(config, overwrite=overwrite)
    before = None if result is None else result.before
    if siss:
        say("The same with SISS, to compare:")
        other = with_siss(config)
        beside = runs.unlearned(other, overwrite=overwrite, measured=before)
        if beside is not None:
            say(f"SISS. {beside.facts['verdict']['text']}")
            write_report(out, [other.out])
    if result is None:
        return 0
    runs.say_result(result, label="Default method. " if siss else "")
    return result.exit_code


def unlearn(
    *,
    recipe: str | None,
    overwrite: bool,
    dry_run: bool,
    push_to_hub: str | None,
    submit: dict[str, Any] | None,
    **settings: Any,
) -> int:
    """Run the settings of ``dataunlearn unlearn``; see :mod:`dataunlearn.runtime.exit_codes`."""
    from dataunlearn.models.publishing import publish, require_publishable
    from dataunlearn.runtime.checks import require
    from dataunlearn.unlearning.config import Unlearning

    config = Unlearning(**settings)
    if submit is not None:
        from dataunlearn.cli import submitting

        require(not dry_run and push_to_hub is None, "--submit goes with no dry run and no hub")
        return submitting.submit(config, submit, overwrite=overwrite)
    if push_to_hub is not None:
        require_publishable(push_to_hub)
    if dry_run:
        runs.show_plan(config, overwrite=overwrite)
        return 0
    result = runs.unlearned(config, overwrite=overwrite)
    if result is None:
        return 0
    runs.say_result(result)
    if push_to_hub is not None and result.exit_code == 0:
        say(f"On the hub: {publish(config.out / 'model', push_to_hub)}")
    elif push_to_hub is not None:
        say(f"Not put on the hub as {push_to_hub}: the verdict is not good enough for that.")
    return result.exit_code


def train(
    *, recipe: str | None, out: Path, device: str | None, overwrite: bool, **settings: Any
) -> int:
    """Train a base model of the kind that the recipe is for."""
    from dataunlearn.base_models.config import BaseModel, TextToImageModel
    from dataunlearn.base_models.pixel import train_base
    from dataunlearn.base_models.text_to_image import train_text_to_image
    from dataunlearn.recipes import TRAINING_RECIPES

    accelerator = make_accelerator(device)
    if recipe is not None and isinstance(TRAINING_RECIPES[recipe](), TextToImageModel):
        model = train_text_to_image(
            TextToImageModel(**settings), out, accelerator=accelerator, overwrite=overwrite
        )
    else:
        model = train_base(BaseModel(**settings), out, accelerator=accelerator, overwrite=overwrite)
    say(f"Model: {model}")
    return 0


def model_source(settings: dict[str, Any]) -> ModelSource:
    """Take the settings of the model out of a verb's settings."""
    from dataunlearn.models.loading import ModelSource

    names = [field.name for field in dataclasses.fields(ModelSource)]
    return ModelSource(**{name: settings.pop(name) for name in names})


def sample(
    out: Path,
    prompts: str | None = None,
    num_samples: int = 64,
    num_steps: int = 25,
    seed: int = 0,
    batch_size: int = 64,
    columns: int = 8,
    overwrite: bool = False,
    **model: Any,
) -> int:
    """Draw pictures from a model into one PNG grid; the same seed gives the same pictures.

    Args:
        out: PNG file to write.
        prompts: What a text-to-image model is asked for: one prompt, or a file of prompts (.txt,
            .yaml, ...), which take turns; without any, the empty prompt.
        num_samples: How many pictures.
        num_steps: Denoiser calls per picture.
        seed: Names the noise.
        batch_size: Pictures per call.
        columns: Pictures per line of the grid.
        overwrite: Replace a picture that is there.
        **model: The fields of :class:`dataunlearn.models.loading.ModelSource`.
    """
    from dataunlearn.data.pixels import to_uint8
    from dataunlearn.models.sampling import Drawing, generate
    from dataunlearn.prompts.prompt_file import texts_of
    from dataunlearn.report.grids import save_grid
    from dataunlearn.runtime.progress import progress_bar

    counts = {"num_samples": num_samples, "num_steps": num_steps, "batch_size": batch_size}
    check_sample(out, {**counts, "columns": columns}, seed, overwrite=overwrite)
    texts = texts_of(prompts, say)
    source = model_source(model)
    loaded = source.open(make_accelerator(source.device).device)
    with progress_bar("drawing", num_samples) as advance:
        samples = generate(
            loaded,
            num_samples,
            Drawing(
                seed=seed,
                num_steps=num_steps,
                batch_size=batch_size,
                prompts=texts,
                progress=advance,
            ),
        )
    save_grid(to_uint8(samples), out, columns=columns)
    say(f"Grid: {out}")
    return 0


def check_sample(out: Path, counts: Mapping[str, int], seed: int, *, overwrite: bool) -> None:
    """Refuse numbers that make no grid, and to replace a picture unasked.

    Raises:
        ValueError: With the setting's name, and what it takes.
    """
    from dataunlearn.runtime.checks import require
    from dataunlearn.runtime.places import require_name, require_writable

    for name, value in counts.items():
        require(value >= 1, f"{name} must be at least 1, not {value}")
    most = MOST_SAMPLES
    require(counts["num_samples"] <= most, f"num_samples must be at most {most} for a grid")
    require(seed >= 0, f"seed must be at least 0, not {seed}")
    require(out.suffix.lower() == ".png", f"--out is a picture: give a name ending in .png, {out}")
    require_writable(out.parent)
    require_name(out)
    require(not out.is_dir(), f"{out} is a folder: choose another --out")
    require(overwrite or not out.exists(), f"{out} is there: give --overwrite to replace it")


def report(
    run_dir: Path,
    beside: Sequence[Path] = (),
    pictures: Any = "shown",
    pdf: Path | None = None,
) -> int:
    """Write the HTML page of a run again, with other runs beside it; or print it to a PDF."""
    from dataunlearn.report.pdf import print_page, require_browser, require_pdf_name
    from dataunlearn.report.run_files import page_of, read_run, write_report
    from dataunlearn.runtime.lock import locked

    if pdf is not None:
        require_pdf_name(pdf)
        require_browser()
        print_page(page_of(run_dir, beside, pictures=pictures), pdf)
        say(f"PDF: {pdf}")
        return 0
    read_run(run_dir)
    with locked(run_dir):
        page = write_report(run_dir, beside, pictures=pictures)
    say(f"Report: {page}")
    return 0


def unlearn_prompts(*, recipe: str | None, overwrite: bool, **settings: Any) -> int:
    """Run the workflow; 0 if no prompt gives memorised samples any more, 4 if some do."""
    from dataunlearn.prompts.config import PromptUnlearning
    from dataunlearn.prompts.report import REPORT_FILE
    from dataunlearn.prompts.workflow import unlearn_prompts as run_workflow

    config = PromptUnlearning(**settings)
    accelerator = make_accelerator(config.device, config.settings.tracker, config.out.parent)
    facts = run_workflow(config, accelerator=accelerator, say=say, overwrite=overwrite)
    if facts is None:
        say("Stopped after the labels; the same command without --stop_after goes on.")
        return 0
    clean, total = facts["mitigated"]["without_memorised_samples"], facts["mitigated"]["prompts"]
    say(f"{clean} of {total} prompts are clear: none of their fresh samples is memorised.")
    if clean < total:
        say('To push harder: --unlearning \'{"strength": "strong"}\', or --one_run_each.')
    for run in facts["runs"]:
        say(f"New model: {run['model']['path']}")
    say(f"Report:    {config.out / REPORT_FILE}")
    return 0 if clean == total else NOT_FORGOTTEN
