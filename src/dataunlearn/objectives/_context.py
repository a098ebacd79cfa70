"""What a method may look at once, before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from dataunlearn.process import ForwardProcess
from dataunlearn.recognition.levels import Levels
from dataunlearn.recognition.witness import Pictures


@dataclass(frozen=True, eq=False)
class Context:
    """The run that an objective is prepared for; nothing in it is the model itself.

    Attributes:
        process: The model's forward process.
        forget: The K different forget images, in the order of a pair's ``forget_index``.
        timesteps: The lowest and the highest timestep that the run trains on.
        levels: Measures what the model knows of the forget images, when called; the same each time.
        neighbours: The keep images nearest to each forget image, of all there are: asked for k of
            them, ``(K, k, *shape)``, the nearest first.
    """

    process: ForwardProcess
    forget: Pictures
    timesteps: tuple[int, int]
    levels: Callable[[], Levels]
    neighbours: Callable[[int], Tensor]
