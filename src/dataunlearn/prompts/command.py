"""What ``dataunlearn unlearn-prompts`` does."""

from __future__ import annotations

from typing import Any

from dataunlearn.commands import NOT_FORGOTTEN, make_accelerator, say


def unlearn_prompts(*, recipe: str | None, overwrite: bool, **settings: Any) -> int:
    """Run the workflow; 0 if no prompt gives memorised samples any more, 4 if some do."""
    from dataunlearn.prompts.config import PromptUnlearning
    from dataunlearn.prompts.report import REPORT_FILE
    from dataunlearn.prompts.workflow import unlearn_prompts as run_workflow

    config = PromptUnlearning(**settings)
    accelerator = make_accelerator(config.device)
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
