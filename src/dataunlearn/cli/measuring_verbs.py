"""What the measuring verbs of the command do: evaluate, audit, attack, bench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataunlearn.cli.accelerator import make_accelerator
from dataunlearn.cli.runs import say
from dataunlearn.cli.verbs import model_source
from dataunlearn.runtime.exit_codes import MEMORISED

if TYPE_CHECKING:
    from dataunlearn.attacks.config import Relearning
    from dataunlearn.data import ImageSet
    from dataunlearn.models import DiffusionModel


def evaluate(
    *,
    metrics: str,
    out: Path,
    before: str | None,
    reference: str | None,
    resize: bool,
    overwrite: bool,
    prompts: str | None,
    **settings: Any,
) -> int:
    """Measure a model and write the numbers."""
    from dataunlearn.metrics import evaluation
    from dataunlearn.metrics.catalogue import MEASURES
    from dataunlearn.metrics.inputs import Inputs
    from dataunlearn.models.base import require_comparable
    from dataunlearn.prompts.prompt_file import texts_of
    from dataunlearn.runtime.run_folder import check_run_dir

    named = {"before": before, "reference": reference}
    check_run_dir(out, overwrite=overwrite, inputs={**settings, **named, "prompts": prompts})
    source = model_source(settings)
    given = {name: settings.pop(name) for name in MEASURES if name in settings}
    chosen = choose_measures(metrics, given)
    texts = texts_of(prompts, say)
    where = make_accelerator(source.device).device
    loaded = source.open(where)
    others: dict[str, Any] = {n: source.like(s).open(where) for n, s in named.items() if s}
    if "reference" in others:
        require_comparable(others["reference"], loaded)
    sides = {name: settings.pop(name) for name in ("forget", "keep", "held_out")}
    opened = opened_sides(loaded, sides, resize=resize)
    inputs = Inputs(loaded, prompts=texts, **others, **opened, **settings)
    evaluation.check_measures(inputs, chosen)
    found = evaluation.prices(inputs, chosen, None if overwrite else out)
    say(evaluation.price_words(found))
    evaluation.evaluate(inputs, chosen, out, overwrite=overwrite)
    say((out / evaluation.TABLE_FILE).read_text().rstrip())
    say(f"Numbers: {out / 'results.json'}")
    return 0


def audit(
    *,
    images: str,
    out: Path,
    keep: str | None,
    resize: bool,
    overwrite: bool,
    **settings: Any,
) -> int:
    """Audit images; 3 if any is memorised, else 0."""
    from dataunlearn.metrics.audit.config import AuditSettings
    from dataunlearn.metrics.audit.run import run_audit
    from dataunlearn.runtime.run_folder import check_run_dir

    check_run_dir(out, overwrite=overwrite, inputs={**settings, "images": images, "keep": keep})
    source = model_source(settings)
    loaded = source.open(make_accelerator(source.device).device)
    found = run_audit(
        loaded,
        opened_pictures(loaded, images, resize=resize, role="audited"),
        None if keep is None else opened_pictures(loaded, keep, resize=resize, role="keep"),
        AuditSettings(**settings),
        out,
        overwrite=overwrite,
    )
    memorised = [image for image in found if image.memorised]
    verb = "is" if len(memorised) == 1 else "are"
    say(f"{len(memorised)} of {len(found)} images {verb} memorised.")
    for image in memorised[:MOST_NAMED]:
        say(f"  {image.name}: {image.why}")
    if len(memorised) > MOST_NAMED:
        say(f"  and {len(memorised) - MOST_NAMED} more")
    say(f"Gallery: {out / 'audit.html'}\nNumbers: {out / 'audit.json'}")
    return MEMORISED if memorised else 0


MOST_NAMED = 10


def opened_pictures(model: DiffusionModel, source: str, *, resize: bool, role: str) -> ImageSet:
    """Open pictures for a model, and say what there is to know about their source."""
    from dataunlearn.models.pictures import open_for

    found = open_for(model, source, resize=resize, role=role)
    if found.remarks:
        say(f"{role}: {found.described()}")
    return found


def opened_sides(
    model: DiffusionModel, sides: Mapping[str, str | None], *, resize: bool
) -> dict[str, Any]:
    """The pictures of the sides that are given, by the names of these."""
    return {
        name: opened_pictures(model, images, resize=resize, role=name.replace("_", "-"))
        for name, images in sides.items()
        if images is not None
    }


def attack(
    *,
    out: Path,
    on: str,
    reference: str | None,
    resize: bool,
    overwrite: bool,
    membership: Any,
    **settings: Any,
) -> int:
    """Attack an unlearned model and write the numbers."""
    from dataunlearn.attacks.config import Relearning
    from dataunlearn.attacks.run import TABLE_FILE, run_attacks
    from dataunlearn.metrics.inputs import Inputs
    from dataunlearn.runtime.run_folder import check_run_dir

    check_run_dir(out, overwrite=overwrite, inputs={**settings, "reference": reference})
    source = model_source(settings)
    sides = {name: settings.pop(name) for name in ("forget", "keep", "held_out")}
    relearnings = [Relearning(on=name, **settings) for name in attacked_on(on)]
    refuse_unused(relearnings, membership, held_out=sides["held_out"] is not None)
    where = make_accelerator(source.device).device
    loaded = source.open(where)
    other = None if reference is None else source.like(reference).open(where)
    opened = opened_sides(loaded, sides, resize=resize)
    run_attacks(
        Inputs(loaded, **opened, batch_size=settings["micro_batch_rows"]),
        relearnings,
        out,
        reference=other,
        membership=membership,
        overwrite=overwrite,
    )
    say((out / TABLE_FILE).read_text().rstrip())
    say(f"Numbers: {out / 'attack.json'}\nPlots:   {out / 'relearning_*.png'}")
    return 0


def verify(
    *,
    out: Path,
    before: str | None,
    reference: str | None,
    resize: bool,
    overwrite: bool,
    **settings: Any,
) -> int:
    """Verify a model; 0 as if never seen, 4 still known, 5 anything else."""
    from dataunlearn.runtime.run_folder import check_run_dir
    from dataunlearn.verification.config import Verifying
    from dataunlearn.verification.run import PAGE_FILE
    from dataunlearn.verification.run import verify as run_verification
    from dataunlearn.verification.subject import Pictures, make_subject

    named = {**settings, "before": before, "reference": reference}
    check_run_dir(out, overwrite=overwrite, inputs=named)
    source = model_source(settings)
    where = make_accelerator(source.device).device
    loaded = source.open(where)
    earlier, never = (
        None if other is None else source.like(other).open(where) for other in (before, reference)
    )
    sides = {name: settings.pop(name) for name in ("forget", "keep", "held_out")}
    opened = opened_sides(loaded, sides, resize=resize)
    pictures = Pictures(**opened, keep_source=sides["keep"])
    how = Verifying(**settings, guidance=source.guidance)
    how.require_used()
    subject = make_subject(loaded, pictures, how, before=earlier, reference=never)
    found = run_verification(subject, out, say=say, overwrite=overwrite)
    say(f"{found.text}\nPage:    {out / PAGE_FILE}\nNumbers: {out / 'verification.json'}")
    return found.exit_code


def attacked_on(on: str) -> list[Any]:
    """What ``--on`` names, each once, in the order given."""
    return list(dict.fromkeys(name.strip() for name in on.split(",") if name.strip()))


def refuse_unused(relearnings: Sequence[Relearning], membership: Any, *, held_out: bool) -> None:
    """Refuse settings of an attack that nothing would come of.

    Raises:
        ValueError: With what would give them a meaning.
    """
    from dataunlearn.attacks.config import Relearning
    from dataunlearn.metrics.membership import Membership
    from dataunlearn.runtime.checks import require

    require(bool(relearnings), "--on takes keep, image and view, with commas between them")
    has_view = any(each.on == "view" for each in relearnings)
    require(
        has_view or relearnings[0].view == Relearning().view,
        "--view is given but --on does not name view",
    )
    require(
        held_out or membership == Membership(),
        "--membership has settings, but there are no --held-out images to measure it against",
    )


def choose_measures(metrics: str, given: dict[str, Any]) -> dict[str, Any]:
    """The measures named, in that order, with the settings given for them.

    Raises:
        ValueError: If a name is unknown, or settings were given for a measure that is not named.
    """
    from dataunlearn.metrics.catalogue import MEASURES

    names = [name.strip() for name in metrics.split(",") if name.strip()]
    unknown = [name for name in names if name not in MEASURES]
    if unknown or not names:
        raise ValueError(
            f"no measure {', '.join(unknown) or 'named'}; --metrics takes names from "
            f"{', '.join(MEASURES)}, with commas between them"
        )
    for name, measure in given.items():
        if name not in names and measure != MEASURES[name]():
            raise ValueError(f"--{name} has settings but --metrics does not name it")
    return {name: given.get(name) or MEASURES[name]() for name in names}


def bench(*, overwrite: bool, dry_run: bool, **settings: Any) -> int:
    """Run a benchmark and say where its table is; dry, only how far it is."""
    from dataunlearn.bench.config import Benchmark
    from dataunlearn.bench.run import overview, run_benchmark
    from dataunlearn.bench.table import PLOT_FILE

    benchmark = Benchmark(**settings)
    if not benchmark.is_of_prompts:
        choose_measures(benchmark.metrics, {})
    if dry_run:
        say(overview(benchmark))
        return 0
    table = run_benchmark(benchmark, overwrite=overwrite)
    say(table.read_text().rstrip())
    say(f"Table: {table}")
    plot = table.with_name(PLOT_FILE)
    if plot.is_file():
        say(f"Plot:  {plot}")
    else:
        say(
            f"No plot: no row has both {benchmark.forgetting} and {benchmark.quality}; set "
            "forgetting and quality to two columns of the table."
        )
    return 0
