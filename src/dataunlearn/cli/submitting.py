"""Hand a run to a cluster in place of doing it here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from dataunlearn.cli.runs import say, sources_of

if TYPE_CHECKING:
    from dataunlearn.unlearning.config import Unlearning


def submit(config: Unlearning, parameters: dict[str, Any], *, overwrite: bool) -> int:
    """Hand a run of ``unlearn`` in, once its settings are checked; returns at once.

    Args:
        config: The run.
        parameters: For submitit's executor.
        overwrite: Whether it replaces the run in its folder.
    """
    from dataunlearn.runtime.files import write_atomically
    from dataunlearn.runtime.jobs import OwnCommand, executor_for
    from dataunlearn.runtime.run_folder import check_run_dir
    from dataunlearn.unlearning.parsing import as_yaml

    check_run_dir(config.out, overwrite=overwrite, inputs=sources_of(config))
    folder = Path(f"{config.out}.jobs").absolute()
    executor = executor_for(folder, parameters)
    settings = {key: value for key, value in as_yaml(config).items() if value is not None}
    file = folder / "settings.yaml"
    write_atomically(file, yaml.safe_dump(settings | {"out": str(config.out)}).encode())
    first = ["--overwrite"] if overwrite else []
    job = executor.submit(OwnCommand(["unlearn", "--config", str(file)], first))
    say(f"Job {job.job_id} is handed in; what it says is in {folder}.")
    say(f"Its results come to {config.out}.")
    return 0
