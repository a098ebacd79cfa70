"""Run a complete configuration of ``unlearn``, and say how it ended.

A file of its own for the reason that :mod:`dataunlearn.cli.accelerator` gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from dataunlearn.cli.accelerator import make_accelerator
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.exit_codes import NOT_FORGOTTEN
from dataunlearn.runtime.text_files import printable

if TYPE_CHECKING:
    from dataunlearn.unlearning.config import Unlearning
    from dataunlearn.unlearning.measuring import Measurement
    from dataunlearn.unlearning.run import UnlearnResult

console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A line for the person at the terminal."""
    console.print(printable(text), markup=False, soft_wrap=True)


def print_out(text: str) -> None:
    """Text that was asked for, on the standard output."""
    Console(highlight=False).print(printable(text), markup=False, soft_wrap=True)


def unlearned(
    config: Unlearning, *, overwrite: bool, measured: Measurement | None = None
) -> UnlearnResult | None:
    """Run a configuration on all processes.

    Args:
        config: What to do.
        overwrite: Replace a run in its folder.
        measured: The measurement before, where another run of the same model, images and settings
            took it.

    Returns:
        The result on the main process, None on the others.
    """
    from dataunlearn.runtime.processes import require_processes
    from dataunlearn.runtime.run_folder import check_run_dir
    from dataunlearn.unlearning.job import prepare
    from dataunlearn.unlearning.run import run_job

    check_run_dir(config.out, overwrite=overwrite, inputs=sources_of(config))
    accelerator = make_accelerator(config.device, config.tracker, config.out.parent)
    if config.shard:
        require_processes(accelerator)
    job = prepare(config, device=accelerator.device, shown=accelerator.is_main_process)
    result = run_job(
        job,
        out=config.out,
        say=say,
        accelerator=accelerator,
        overwrite=overwrite,
        measured=measured,
    )
    accelerator.end_training()
    return result


def sources_of(config: Unlearning) -> dict[str, str | None]:
    """Where the inputs of a run come from, by the name of their option."""
    names = ("model", "forget", "keep", "reference", "scheduler")
    return {name: getattr(config, name) for name in names}


def show_plan(config: Unlearning, *, overwrite: bool) -> None:
    """Print what a configuration would do, and do nothing.

    Raises:
        ValueError: If a network is to be in parts: one step of a whole one is tried.
    """
    from dataunlearn.runtime.run_folder import check_run_dir
    from dataunlearn.unlearning.dry_run import describe_plan
    from dataunlearn.unlearning.job import prepare

    require(not config.shard, "a dry run tries a step on the whole network: leave --shard out")
    check_run_dir(config.out, overwrite=overwrite, inputs=sources_of(config))
    accelerator = make_accelerator(config.device, config.tracker, config.out.parent)
    job = prepare(config, device=accelerator.device, shown=accelerator.is_main_process)
    if accelerator.is_main_process:
        print_out(describe_plan(job))


def say_result(result: UnlearnResult, label: str = "") -> None:
    """Say the verdict, after a label, and where everything is."""
    say(label + result.facts["verdict"]["text"])
    if result.exit_code == NOT_FORGOTTEN:
        say("To push harder: --strength strong, or more --steps.")
    if result.out is not None:
        say(f"New model: {result.out / 'model'}\nReport:    {result.out / 'report.html'}")
