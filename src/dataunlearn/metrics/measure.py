"""The protocol of measures: inputs in, results out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.result import Result


class Measure(ABC):
    """Something that can be measured of a model; implementations are frozen dataclasses.

    Attributes:
        needs: The inputs it cannot do without: ``forget``, ``keep``, ``held_out``, ``before``,
            ``reference``, ``reference_samples``.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def __call__(self, inputs: Inputs) -> list[Result]:
        """Measure; ``inputs`` holds what ``needs`` names.

        Raises:
            ValueError: If the inputs do not fit.
        """

    def check(self, inputs: Inputs) -> None:
        """Look, before any work, whether the inputs hold what is needed.

        Raises:
            ValueError: If they do not.
        """
        missing = [name for name in self.needs if getattr(inputs, name) is None]
        if missing:
            options = ", ".join("--" + name.replace("_", "-") for name in missing)
            raise ValueError(f"{type(self).__name__} needs {options}")
