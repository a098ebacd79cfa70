"""The protocol of measures: inputs in, results out."""

# Annotations are types here, not texts: the command line's parser looks inherited ones up in the
# subclass's module, and checks no setting of a class where a name is not known there.

import math
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import ClassVar

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.pace import NOTHING, Cost
from dataunlearn.metrics.result import Result
from dataunlearn.runtime.checks import require


class Measure(ABC):
    """Something that can be measured of a model; implementations are frozen dataclasses.

    Attributes:
        needs: The inputs it cannot do without: ``forget``, ``keep``, ``held_out``, ``before``,
            ``reference``, ``reference_samples``.
        looks_at: Which samples it looks at: ``samples``, ``samples_before``. They are drawn once,
            whoever asks first.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    looks_at: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Check ranges: counts are at least 1, limits above 0, noise levels at least 0."""
        for field in fields(self):  # type: ignore[arg-type]
            value, name = getattr(self, field.name), field.name
            if type(value) is int and "timestep" not in name:
                require(value >= 1, f"{name} must be at least 1, not {value}")
            if type(value) is float:
                require(0 < value < math.inf, f"{name} must be above 0, not {value}")
            levels = value if isinstance(value, tuple) else (value,)
            if "timestep" in name and name != "each_timestep":
                require(
                    all(level is None or level >= 0 for level in levels),
                    f"{name} must be at least 0, not {value}",
                )

    @abstractmethod
    def __call__(self, inputs: Inputs) -> list[Result]:
        """Measure; ``inputs`` holds what ``needs`` names.

        Raises:
            ValueError: If the inputs do not fit.
        """

    def cost(self, inputs: Inputs) -> Cost:
        """About what it costs, beside the samples that it looks at."""
        del inputs
        return NOTHING

    def check(self, inputs: Inputs) -> None:
        """Look, before any work, whether the inputs hold what is needed.

        Raises:
            ValueError: If they do not.
        """
        missing = [name for name in self.needs if getattr(inputs, name) is None]
        if missing:
            options = ", ".join("--" + name.replace("_", "-") for name in missing)
            raise ValueError(f"{type(self).__name__} needs {options}")
