"""The configuration of a benchmark: methods, seeds, measures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dataunlearn.runtime.checks import require
from dataunlearn.runtime.streams import EVALUATION_SEED

NEVER, NEVER_AGAIN, BEFORE = BASELINES = ("never saw it", "never saw it, other seed", "before")
BESIDE_FOLDER = "beside"


@dataclass(frozen=True)
class Benchmark:
    """Settings of ``dataunlearn bench``: every method with every seed, one table.

    Args:
        out: Folder for all runs and the table; a second call goes on from there.
        base: Settings of ``dataunlearn unlearn`` that all runs share (model, forget, keep, ...);
            or, where they give ``prompts``, of ``dataunlearn unlearn-prompts``.
        methods: For each name in the table, the settings in which that method differs; those
            under ``unlearning`` join the base's.
        seeds: Training seeds; each method runs once with each.
        metrics: Measures of ``dataunlearn evaluate``, with commas between them; prompts have
            measures of their own.
        evaluate: Settings of ``dataunlearn evaluate`` (num_samples, seed, held_out, kid, ...).
        forgetting: The result that the Pareto plot shows from left to right, lower is better.
        quality: The result that it shows upwards.
        reference: A model that never saw the forget images, measured like the others, with a
            second seed as well; all get the measure ``reference_kid`` against its samples. Or None.
        beside: For each name in the table, a further model that is measured as it is, such as
            another one that never saw them.
        attack: Settings of ``dataunlearn attack`` (on, seeds, ...): every model is attacked, too.
            Or None.
        workers: Runs at a time; None for one for each GPU, or one.
        launcher: "local" processes, or "submitit" (SLURM or whatever submitit finds; an extra).
        submitit: What submitit's executor is given: timeout_min, slurm_partition, ...
    """

    out: Path
    base: dict[str, Any]
    methods: dict[str, dict[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2)
    metrics: str = "copies,regeneration"
    evaluate: dict[str, Any] = field(default_factory=dict)
    forgetting: str = "regeneration_500"
    quality: str = "kid"
    reference: str | None = None
    beside: dict[str, str] = field(default_factory=dict)
    attack: dict[str, Any] | None = None
    workers: int | None = None
    launcher: Literal["local", "submitit"] = "local"
    submitit: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what can be checked without running anything."""
        require(bool(self.methods), "methods must name at least one method")
        require(bool(self.seeds), "seeds must hold at least one seed")
        require(len(set(self.seeds)) == len(self.seeds), f"seeds repeat: {self.seeds}")
        require(self.workers is None or self.workers >= 1, "workers must be at least 1")
        verb = "unlearn-prompts" if self.is_of_prompts else "unlearn"
        for name in ("model", "prompts") if self.is_of_prompts else ("model", "forget", "keep"):
            require(name in self.base, f"base must give {name}, as for dataunlearn {verb}")
        if self.is_of_prompts:
            require(self.reference is None, "a benchmark of prompts takes no reference")
            require(not self.evaluate, "a benchmark of prompts takes no settings for evaluate")
            require(not self.beside, "a benchmark of prompts measures no models beside")
            require(self.attack is None, "a benchmark of prompts takes no attack")
        for name in ("out", "seed"):
            require(name not in self.base, f"base must not give {name}: the benchmark sets it")
        folders = [slug(name) for name in (*self.methods, *self.beside, *BASELINES, BESIDE_FOLDER)]
        shared = sorted({folder for folder in folders if folders.count(folder) > 1})
        require(not shared, f"names in methods or beside share a folder name: {shared}")

    @property
    def is_of_prompts(self) -> bool:
        """Whether runs are ``dataunlearn unlearn-prompts``."""
        return "prompts" in self.base


def slug(name: str) -> str:
    """A method's folder: lower case, everything but letters and digits as one underscore."""
    words = "".join(letter if letter.isalnum() else " " for letter in name.lower()).split()
    return "_".join(words)


@dataclass(frozen=True)
class Cell:
    """One run of a benchmark.

    Attributes:
        method: The method's name.
        seed: Its training seed.
        folder: Where its run and its measurements go.
        settings: Settings of ``dataunlearn unlearn``, complete but for the folder.
    """

    method: str
    seed: int
    folder: Path
    settings: dict[str, Any]


def cells(benchmark: Benchmark) -> list[Cell]:
    """All runs, seed by seed, so that every method has one result before any has two."""
    return [
        Cell(
            method,
            seed,
            benchmark.out / slug(method) / f"seed_{seed}",
            settings_of(benchmark, changes, seed),
        )
        for seed in benchmark.seeds
        for method, changes in benchmark.methods.items()
    ]


def settings_of(benchmark: Benchmark, changes: dict[str, Any], seed: int) -> dict[str, Any]:
    """A run's settings: the base's, the method's, and the seed."""
    if not benchmark.is_of_prompts:
        return {"force": True, **benchmark.base, **changes, "seed": seed}
    shared, own = (s.get("unlearning", {}) for s in (benchmark.base, changes))
    return {**benchmark.base, **changes, "unlearning": {**shared, **own, "seed": seed}}


@dataclass(frozen=True)
class Baseline:
    """A model that is measured as it is.

    Attributes:
        name: Its name in the table.
        model: Its folder or hub id.
        folder: Where its measurements go.
        settings: Settings of ``dataunlearn evaluate`` that differ for it.
        is_repeated: Whether it is a model that was there before, measured once more.
    """

    name: str
    model: str
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    is_repeated: bool = False


def baselines(benchmark: Benchmark) -> list[Baseline]:
    """The reference, if any, with two evaluation seeds, models beside, and the one before."""
    found = []
    if benchmark.reference is not None:
        seed = benchmark.evaluate.get("seed", EVALUATION_SEED)
        first = {
            "metrics": benchmark.metrics,
            "reference": None,
            "reference_samples": None,
        }
        places = [benchmark.out / slug(name) for name in (NEVER, NEVER_AGAIN)]
        found = [
            Baseline(NEVER, benchmark.reference, places[0], first),
            Baseline(NEVER_AGAIN, benchmark.reference, places[1], {"seed": seed + 1}, True),
        ]
    beside = [
        Baseline(name, model, benchmark.out / BESIDE_FOLDER / slug(name))
        for name, model in benchmark.beside.items()
    ]
    before = Baseline(BEFORE, str(benchmark.base["model"]), benchmark.out / slug(BEFORE))
    return [*found, *beside, before]


def reference_settings(benchmark: Benchmark) -> dict[str, Any]:
    """What every other model's evaluation is told of the reference."""
    if benchmark.reference is None:
        return {}
    samples = benchmark.out / slug(NEVER) / "samples.safetensors"
    metrics = f"{benchmark.metrics},reference_kid,reference_distance"
    return {
        "reference": benchmark.reference,
        "reference_samples": str(samples),
        "metrics": metrics,
    }
