"""The page docs/schedulers.md: every scheduler, every setting, and every comparison.

python tests/scheduler_page.py > docs/schedulers.md
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import diffusers
from diffusers.utils import logging

from dataunlearn.models.schedulers import (
    BOUNDS,
    DETERMINISTIC,
    HARMLESS,
    KEPT,
    OTHERS,
    RANDOM,
    REASONS,
    UNFIT,
)
from scheduler_cases import (
    LIMIT,
    RANDOM_LIMIT,
    cases,
    deviation,
    deviation_of_random,
    every_scheduler,
)

ONLY_STEPS = (
    "timestep_spacing",
    "steps_offset",
    "solver_order",
    "solver_type",
    "solver_p",
    "predict_x0",
    "disable_corrector",
    "predictor_order",
    "corrector_order",
    "tau_func",
    "algorithm_type",
    "lower_order_final",
    "euler_at_final",
    "skip_prk_steps",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "interpolation_type",
    "flow_shift",  # without use_flow_sigmas it has no meaning
    "time_shift_type",
    "noise_sampler_seed",
)


def sampled(name: str, settings: Mapping[str, Any]) -> str:
    """What the page says of one comparison."""
    measured = deviation_of_random if name in RANDOM else deviation
    try:
        return f"{measured(name, settings):.1e}"
    except (ValueError, NotImplementedError) as error:
        refused = str(error).startswith("the scheduler ")
        return "refused" if refused else "not in diffusers"
    except ImportError:
        return "not installed"


def verdict(name: str) -> str:
    """What becomes of a scheduler."""
    if name in DETERMINISTIC:
        return "reproduced"
    if name in RANDOM:
        return "followed without its random draws: other pictures, of the same distribution"
    return f"refused: {REASONS.get(name, OTHERS)}"


def becomes(setting: str) -> str:
    """What becomes of a setting."""
    if setting in HARMLESS:
        values = ", ".join(f"`{value}`" for value in HARMLESS[setting])
        return f"refused unless {values}"
    if setting in BOUNDS:
        return "kept for DDIM and DDPM, else refused where it is on"
    if setting in ONLY_STEPS:
        return "says only how steps are spaced, solved or drawn: not followed"
    return "kept" if setting in KEPT else "UNKNOWN"


def settings_of(names: Iterable[str]) -> list[str]:
    """The settings that some of these schedulers have."""
    found = {
        setting
        for name in names
        for setting in inspect.signature(getattr(diffusers, name).__init__).parameters
    }
    known = {*ONLY_STEPS, *KEPT, *HARMLESS, *BOUNDS}  # a class without its package has none
    return sorted((found | known) - {"self", "args", "kwargs"})


def in_words(settings: Mapping[str, Any]) -> str:
    """A case as the page has it."""
    return ", ".join(f"{key}={value}" for key, value in settings.items()) or "as usual"


def tables() -> str:
    """The page down to the distances, of which nothing is measured."""
    lines = [HEADER.format(version=diffusers.__version__, limit=LIMIT, apart=RANDOM_LIMIT)]
    lines += ["| scheduler | what becomes of it |", "|---|---|"]
    lines += [f"| {name} | {verdict(name)} |" for name in every_scheduler()]
    lines += ["", "## Settings of supported schedulers", "", "| setting | what becomes of it |"]
    lines += ["|---|---|"]
    lines += [f"| `{s}` | {becomes(s)} |" for s in settings_of((*DETERMINISTIC, *RANDOM))]
    for name, unfit in UNFIT.items():
        words = " or ".join(f"`{key}={value}`" for key, value in unfit.items())
        lines += ["", f"{name} is refused with {words}: {UNFIT_WORDS}"]
    return "\n".join([*lines, "", "## Distances", "", "| scheduler | settings | distance |"]) + "\n"


def row(name: str, case: Mapping[str, Any]) -> str:
    """A line of the distances, down to what is measured."""
    return f"| {name} | {in_words(case)} | "


def distances() -> Iterator[str]:
    """The lines of the distances."""
    yield "|---|---|---|\n"
    for name in (*DETERMINISTIC, *RANDOM):
        for case in cases(name):
            yield f"{row(name, case)}{sampled(name, case)} |\n"


HEADER = """# Schedulers

Made by `python tests/scheduler_page.py > docs/schedulers.md` with diffusers {version}, on a CPU, in
some minutes. To be remade when diffusers, or what is said of a scheduler here, changes: a test
fails until then.

Pictures are drawn by one deterministic sampler (`models/sampling.py`), whatever a pipeline's
scheduler. Of the scheduler it keeps the noise levels, what the network predicts, and whatever else
changes the picture that many steps lead to. What it cannot keep is refused by name when a model is
opened. It has steps of its own, spaced evenly down from the most noise: with few steps a solver of
a higher order draws other pictures than it, and with many the same.

Distances are between diffusers' pictures and ours, of a model whose predictions are known in closed
form (`tests/scheduler_cases.py`), with pixels in [-1, 1]. From the same noise they are root mean
squares, all below {limit}. Schedulers that draw at random cannot be given the same draws: of theirs
it is the mean Wasserstein-1 distance between a pixel's values in 2000 pictures each, all below
{apart}, of a model whose pictures lie within [-1, 1]. Where clean estimates are clipped and a
model's pictures do not lie within the bounds, draws and bounds together lead to other pictures.
"""
NO_DISTANCE = ("refused", "not in diffusers", "not installed")
REMAKE = "python tests/scheduler_page.py > docs/schedulers.md"
UNFIT_WORDS = (
    "diffusers' pictures of as many steps as there are timesteps are then further away, or NaN."
)

if __name__ == "__main__":
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    sys.stdout.write(tables())
    for line in distances():
        sys.stdout.write(line)
        sys.stdout.flush()
