"""The options of each verb of the command."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from dataunlearn.cli import verbs

CONFIG_HELP = "YAML file with any of these settings"


def add_demo(parser: Any, recipe: str | None) -> None:
    """Options of ``demo``."""
    parser.add_function_arguments(verbs.demo, as_group=False)


def add_recipe(parser: Any, recipes: Iterable[str]) -> None:
    """The option that says where defaults come from."""
    parser.add_argument(
        "--recipe",
        type=str | None,
        default=None,
        help=f"Where defaults come from: {', '.join(recipes)}, or the library's own.",
    )


def add_unlearn(parser: Any, recipe: str | None) -> None:
    """Options of ``unlearn``, with the defaults of a recipe or the library."""
    from dataunlearn.recipes import UNLEARNING_RECIPES
    from dataunlearn.unlearning.config import Unlearning
    from dataunlearn.unlearning.parsing import as_yaml

    add_recipe(parser, UNLEARNING_RECIPES)
    parser.add_class_arguments(Unlearning, as_group=False)
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace the run in --out.")
    parser.add_argument(
        "--dry_run", type=bool, default=False, help="Print what would happen, and stop."
    )
    parser.add_argument(
        "--push_to_hub",
        type=str | None,
        default=None,
        help="Put the new model on the Hugging Face hub as owner/name, private, if the images are "
        "as if never seen and quality is kept.",
    )
    parser.add_argument(
        "--submit",
        type=dict[str, Any] | None,
        default=None,
        help="Hand the run to SLURM through submitit (an extra), with these parameters, such as "
        '\'{"timeout_min": 60, "slurm_partition": "gpu"}\', or \'{}\'. The command returns at '
        "once; a job whose time is up is handed in again and goes on.",
    )
    if recipe is not None:
        settings = as_yaml(UNLEARNING_RECIPES[recipe]())
        for name in ("forget", "keep", "out"):
            del settings[name]
        parser.set_defaults({**settings, "recipe": recipe})


def add_unlearn_prompts(parser: Any, recipe: str | None) -> None:
    """Options of ``unlearn-prompts``."""
    from dataunlearn.prompts.config import PromptUnlearning
    from dataunlearn.recipes import PROMPT_RECIPES

    add_recipe(parser, PROMPT_RECIPES)
    parser.add_class_arguments(PromptUnlearning, as_group=False)
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace the run in --out.")
    if recipe is not None:
        settings = dataclasses.asdict(PROMPT_RECIPES[recipe]())
        for name in ("prompts", "out"):
            del settings[name]
        parser.set_defaults({**settings, "recipe": recipe})


def add_train(parser: Any, recipe: str | None) -> None:
    """Options of ``train``: those of the recipe's kind of model."""
    from dataunlearn.base_models.config import BaseModel
    from dataunlearn.recipes import TRAINING_RECIPES

    parser.add_argument(
        "--recipe",
        type=str,
        help=f"Where defaults come from: {', '.join(TRAINING_RECIPES)}. It decides which settings "
        "there are: give it with --help to see them.",
    )
    parser.add_argument("--out", type=Path, required=True, help="Run folder.")
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda or mps.")
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace the run in --out.")
    config = None if recipe is None else TRAINING_RECIPES[recipe]()
    parser.add_class_arguments(BaseModel if config is None else type(config), as_group=False)
    if config is not None:
        parser.set_defaults({**dataclasses.asdict(config), "recipe": recipe})


def add_model(parser: Any) -> None:
    """The options that say which model is looked at, and how."""
    from dataunlearn.models.loading import ModelSource

    parser.add_class_arguments(ModelSource, as_group=False)


def add_sample(parser: Any, recipe: str | None) -> None:
    """Options of ``sample``."""
    add_model(parser)
    parser.add_function_arguments(verbs.sample, as_group=False, skip={"model"})


def add_evaluate(parser: Any, recipe: str | None) -> None:
    """Options of ``evaluate``: the inputs', and a group for each measure."""
    from dataunlearn.metrics.catalogue import MEASURES
    from dataunlearn.metrics.inputs import Inputs

    optional = {"forget": "forgotten", "keep": "kept", "held_out": "never trained on"}
    add_model(parser)
    parser.add_argument(
        "--metrics", type=str, required=True, help=f"Comma between names: {', '.join(MEASURES)}."
    )
    parser.add_argument("--out", type=Path, required=True, help="Folder for the numbers.")
    for name, kind in optional.items():
        parser.add_argument(f"--{name}", type=str | None, default=None, help=f"Images {kind}.")
    parser.add_argument(
        "--before", type=str | None, default=None, help="The model before unlearning."
    )
    parser.add_argument(
        "--reference",
        type=str | None,
        default=None,
        help="A model that never saw the forget images.",
    )
    parser.add_argument("--resize", type=bool, default=False, help="Fit images to the model.")
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace what --out holds.")
    parser.add_argument(
        "--prompts",
        type=str | None,
        default=None,
        help="What samples of a text-to-image model are asked for: one prompt, or a file of "
        "prompts, which take turns; the captions of --forget by default.",
    )
    own = {"model", "cache", "shown", "embedders", "before", "reference", "prompts", *optional}
    parser.add_class_arguments(Inputs, as_group=False, skip=own)
    for name, measure in MEASURES.items():
        if dataclasses.fields(measure):  # type: ignore[arg-type]
            parser.add_class_arguments(measure, name)


def add_audit(parser: Any, recipe: str | None) -> None:
    """Options of ``audit``."""
    from dataunlearn.metrics.audit.config import AuditSettings

    add_model(parser)
    parser.add_argument("--images", type=str, required=True, help="The images in question.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for gallery and numbers.")
    parser.add_argument(
        "--keep",
        type=str | None,
        default=None,
        help="Training images: calibrate on them, and search them for near-duplicates.",
    )
    parser.add_argument("--resize", type=bool, default=False, help="Fit images to the model.")
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace what --out holds.")
    parser.add_class_arguments(AuditSettings, as_group=False)


def add_attack(parser: Any, recipe: str | None) -> None:
    """Options of ``attack``."""
    from dataunlearn.attacks.config import Relearning
    from dataunlearn.metrics.membership import Membership

    add_model(parser)
    parser.add_argument("--forget", type=str, required=True, help="Images it had to forget.")
    parser.add_argument("--keep", type=str, required=True, help="Images it had to keep.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for numbers and plots.")
    parser.add_argument(
        "--reference",
        type=str | None,
        default=None,
        help="A model that never saw the forget images, attacked in the same way: an attack that "
        "succeeds there, too, proves nothing.",
    )
    parser.add_argument(
        "--held_out",
        type=str | None,
        default=None,
        help="Images never trained on: measure membership against them, and without a reference "
        "relearn some of them as well.",
    )
    parser.add_argument(
        "--on",
        type=str,
        default="keep,image",
        help="What is trained on, comma between: keep (the keep images alone: does it come back by "
        "itself?), image (the forget images), view (an altered view of them).",
    )
    parser.add_argument("--resize", type=bool, default=False, help="Fit images to the model.")
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace what --out holds.")
    parser.add_class_arguments(Relearning, as_group=False, skip={"on"})
    parser.add_class_arguments(Membership, "membership")


def add_verify(parser: Any, recipe: str | None) -> None:
    """Options of ``verify``."""
    from dataunlearn.verification.config import Verifying

    add_model(parser)
    parser.add_argument("--forget", type=str, required=True, help="Images it had to forget.")
    parser.add_argument("--keep", type=str, required=True, help="Images it had to keep.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for numbers and page.")
    optional = {
        "before": "The model before unlearning, by which losses are judged.",
        "reference": "A model that never saw the forget images: whatever succeeds there, too, "
        "proves nothing.",
        "held_out": "Images never trained on, to compare membership scores with.",
    }
    for name, said in optional.items():
        parser.add_argument(f"--{name}", type=str | None, default=None, help=said)
    parser.add_argument("--resize", type=bool, default=False, help="Fit images to the model.")
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace what --out holds.")
    parser.add_class_arguments(Verifying, as_group=False, skip={"guidance"})


def add_bench(parser: Any, recipe: str | None) -> None:
    """Options of ``bench``."""
    from dataunlearn.bench.config import Benchmark

    parser.add_class_arguments(Benchmark, as_group=False)
    parser.add_argument("--overwrite", type=bool, default=False, help="Replace what --out holds.")
    parser.add_argument(
        "--dry_run",
        type=bool,
        default=False,
        help="Check all settings and say how far each run is; runs nothing.",
    )


def add_report(parser: Any, recipe: str | None) -> None:
    """Options of ``report``."""
    parser.add_argument(
        "run_dir",
        type=Path,
        help="Folder that `dataunlearn unlearn` wrote to; with --pdf also one of `verify`.",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        default=[],
        nargs="+",
        help="Runs that removed the same images from the same model otherwise, shown beside it.",
    )
    parser.add_argument(
        "--pictures",
        type=Literal["shown", "blurred", "left_out"],
        default="shown",
        help="How the page shows the removed pictures, and what looks like them. The run keeps "
        "them in its images.npz: hand on the page alone.",
    )
    parser.add_argument(
        "--pdf",
        type=Path | None,
        default=None,
        help="Print the page to this file, through Chromium, Chrome or Edge; the run's folder "
        "stays as it is.",
    )


def add_request(parser: Any, recipe: str | None) -> None:
    """The actions of ``request``, each with its options."""
    from dataunlearn.cli.request_options import ACTIONS

    add_actions(parser, "request", ACTIONS)


def add_difference(parser: Any, recipe: str | None) -> None:
    """The actions of ``difference``, each with its options."""
    from dataunlearn.cli.difference import ACTIONS

    add_actions(parser, "difference", ACTIONS)


def add_actions(
    parser: Any, verb: str, actions: Mapping[str, tuple[Callable[[Any], None], str, str]]
) -> None:
    """The actions of a verb: what gives each its options, its usage and what it is for."""
    places = parser.add_subcommands(dest="action", metavar="ACTION")
    for name, (build, usage, summary) in actions.items():
        sub = type(parser)(description=summary, usage=f"dataunlearn {verb} {name} {usage}")
        places.add_subcommand(name, sub, help=summary)
        sub.add_argument("--config", action="config", help=CONFIG_HELP)
        build(sub)


def add_check(parser: Any, recipe: str | None) -> None:
    """Options of ``check``."""
    parser.add_argument(
        "run_dir", type=Path, help="Folder with a signature.json, or a project: all its versions."
    )
