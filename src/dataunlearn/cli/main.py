"""The command ``dataunlearn``: verbs that call the library, and no logic of their own."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dataunlearn.cli import difference, measuring_verbs, options, request_verbs, verbs
from dataunlearn.cli.arguments import normalise, without_overwrite
from dataunlearn.runtime.exit_codes import INTERRUPTED
from dataunlearn.runtime.interrupt import InterruptedRunError, raise_on_interrupt
from dataunlearn.runtime.memory import advice, is_out_of_memory
from dataunlearn.runtime.orphan import end_with_parent
from dataunlearn.runtime.text_files import printable
from dataunlearn.unlearning.messages import no_choice, plain_types
from dataunlearn.unlearning.parsing import CommandParser

console = Console(stderr=True, highlight=False)


def build_parser(verb: str | None = None, recipe: str | None = None) -> Any:
    """The command's parser.

    Args:
        verb: The verb that is asked for; it alone gets its options, which take seconds to import.
        recipe: Name of the recipe whose values are that verb's defaults.
    """
    parser = CommandParser(
        prog="dataunlearn",
        description="Remove chosen training images from a diffusion model and show that they are "
        "gone. Try it: dataunlearn demo",
    )
    subcommands = parser.add_subcommands(dest="verb", metavar="VERB")
    for name, (build, _, summary) in VERBS.items():
        sub = CommandParser(description=summary, usage=f"dataunlearn {name} {USAGE[name]}")
        subcommands.add_subcommand(name, sub, help=summary)
        if name == verb:
            if name not in WITH_ACTIONS:  # which have their own
                sub.add_argument("--config", action="config", help=options.CONFIG_HELP)
            build(sub, recipe)
    return parser


Builder = Callable[[Any, str | None], None]
VERBS: Mapping[str, tuple[Builder, Callable[..., int], str]] = {
    "demo": (
        options.add_demo,
        verbs.demo,
        "Unlearn a T-shirt from a small MNIST model, and report.",
    ),
    "unlearn": (
        options.add_unlearn,
        verbs.unlearn,
        "Remove images from a model, measure, report.",
    ),
    "unlearn-prompts": (
        options.add_unlearn_prompts,
        verbs.unlearn_prompts,
        "Unlearn what prompts of a text-to-image model have memorised.",
    ),
    "train": (
        options.add_train,
        verbs.train,
        "Train a base model, with or without some images.",
    ),
    "sample": (options.add_sample, verbs.sample, "Draw pictures from a model into a grid."),
    "audit": (
        options.add_audit,
        measuring_verbs.audit,
        "Find out which images a model knows by heart.",
    ),
    "verify": (
        options.add_verify,
        measuring_verbs.verify,
        "Try a model as an opponent would: has it forgotten?",
    ),
    "attack": (
        options.add_attack,
        measuring_verbs.attack,
        "Try to bring back what a model has forgotten.",
    ),
    "evaluate": (
        options.add_evaluate,
        measuring_verbs.evaluate,
        "Measure a model: likelihood, FID, copies, ...",
    ),
    "bench": (
        options.add_bench,
        measuring_verbs.bench,
        "Compare methods: every method with every seed.",
    ),
    "report": (options.add_report, verbs.report, "Write a run's HTML page again."),
    "request": (
        options.add_request,
        request_verbs.request,
        "Keep a ledger of removal requests, and answer them.",
    ),
    "difference": (
        options.add_difference,
        difference.difference,
        "Save what unlearning changed on its own; apply it, or take it back.",
    ),
    "check": (
        options.add_check,
        request_verbs.check,
        "See whether a signed folder is as it was signed.",
    ),
}


USAGE: Mapping[str, str] = {
    "demo": "[--out DIR] [options]",
    "unlearn": "--model MODEL --forget IMAGES --keep IMAGES --out DIR [options]",
    "unlearn-prompts": "--model MODEL --prompts PROMPTS.yaml --out DIR [options]",
    "train": "--recipe NAME --out DIR [options]",
    "sample": "--model MODEL --out GRID.png [options]",
    "audit": "--model MODEL --images IMAGES --out DIR [--keep IMAGES] [options]",
    "verify": "--model MODEL --forget IMAGES --keep IMAGES --out DIR [--before MODEL] "
    "[--reference MODEL] [--held-out IMAGES] [--effort quick|standard|thorough] ...",
    "attack": "--model MODEL --forget IMAGES --keep IMAGES --out DIR [--reference MODEL] ...",
    "evaluate": "--model MODEL --metrics a,b,c --out DIR [--forget IMAGES] [--keep IMAGES] ...",
    "bench": "BENCHMARK.yaml [options]",
    "report": "RUN_DIR [--beside RUN_DIR ...] [--pictures shown|blurred|left_out] [--pdf FILE.pdf]",
    "request": "add|list|show|apply|verify|rollback|withdraw|purge --project DIR [options]",
    "difference": "save|apply|take-back [options]",
    "check": "RUN_DIR",
}


# Verbs with actions, each of which has its options.
WITH_ACTIONS = ("request", "difference")
# With one of these `train` can do without a recipe.
NEED_NO_RECIPE = {"--recipe", "--config", "--unet", "--help", "-h", "--print_config"}


def chosen_recipe(arguments: Sequence[str]) -> str | None:
    """The value of ``--recipe``, which decides the defaults of everything else.

    Raises:
        ValueError: If the verb has no such recipe.
    """
    verb = arguments[0] if arguments else ""
    recipes = recipes_for(verb)
    options = {argument.partition("=")[0] for argument in arguments}
    if verb == "train" and len(arguments) > 1 and not options & NEED_NO_RECIPE:
        raise ValueError(f"give --recipe NAME; there are {', '.join(recipes)}")
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--recipe":
            recipe = value if equals else "".join(arguments[index + 1 : index + 2])
            if recipe not in recipes:
                there = ", ".join(recipes) or "none"
                raise ValueError(f"no recipe {recipe!r} for {verb}; there are {there}")
            return recipe
    return None


def recipes_for(verb: str) -> Mapping[str, Any]:
    """The recipes of a verb; most have none."""
    if verb not in ("train", "unlearn", "unlearn-prompts"):
        return {}
    from dataunlearn.recipes import PROMPT_RECIPES, TRAINING_RECIPES, UNLEARNING_RECIPES

    known: dict[str, Mapping[str, Any]] = {
        "train": TRAINING_RECIPES,
        "unlearn": UNLEARNING_RECIPES,
        "unlearn-prompts": PROMPT_RECIPES,
    }
    return known[verb]


def run(arguments: Sequence[str]) -> int:
    """Parse and call a verb; returns the exit code."""
    try:
        normal = normalise(arguments)
        asked = next((argument for argument in normal if argument in VERBS), None)
        parser = build_parser(asked, chosen_recipe(normal))
        config = parser.checked(parser.parse_args(normal))
        verb = config.verb
        settings = parser.instantiate_classes(config)[verb].as_dict()
        check_config_file(settings.pop("config", None), settings.get("out"))
        quieten_libraries()
        raise_on_interrupt()
        return VERBS[verb][1](**settings)
    except InterruptedRunError as stop:
        again = printable(shlex.join(["dataunlearn", *without_overwrite(arguments)]))
        console.print(f"Interrupted after step {stop.step}; the state is saved in {stop.folder}.")
        console.print(f"Go on with the same command: {again}", soft_wrap=True, markup=False)
        return INTERRUPTED
    except KeyboardInterrupt:
        console.print(
            "Interrupted outside of training. What training has saved stays, and the "
            "same command goes on from there; if it had not begun, the command starts anew."
        )
        return INTERRUPTED
    except (ValueError, ArithmeticError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise  # an error of ours
        words = printable(advice(error) if is_out_of_memory(error) else str(error))
        words = no_choice(plain_types(words)) or words
        console.print(f"[red]error:[/red] {escape(words)}", soft_wrap=True)
        return 1


def check_config_file(files: Any, out: Any) -> None:
    """Refuse a config file that lies in the folder that is to be written.

    Raises:
        ValueError: If it does.
    """
    if files and out is not None:
        from dataunlearn.runtime.places import require_outside

        given = [getattr(file, "absolute", file) for file in files]
        require_outside(Path(out), {"config": [str(file) for file in given]})


def escape(text: str) -> str:
    """Text without rich's markup."""
    from rich.markup import escape as rich_escape

    return rich_escape(text)


def quieten_libraries() -> None:
    """No progress bars and no advice of the model libraries; importing them takes seconds."""
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    from dataunlearn.data.captions import NoCaptionsWarning
    from dataunlearn.runtime.sealed import DamagedFileWarning

    plainly = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **rest: Any) -> None:
        if issubclass(category, DamagedFileWarning):
            console.print(printable(str(message)), markup=False, soft_wrap=True)
        else:
            plainly(message, category, *place, **rest)

    if not isinstance(getattr(plainly, "shows_ours", None), bool):
        show.shows_ours = True  # type: ignore[attr-defined]
        warnings.showwarning = show
    warnings.filterwarnings("always", category=DamagedFileWarning)
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")
    warnings.filterwarnings("ignore", category=NoCaptionsWarning)  # verbs say it themselves


def main() -> None:
    """The command."""
    end_with_parent()
    sys.exit(run(sys.argv[1:]))
