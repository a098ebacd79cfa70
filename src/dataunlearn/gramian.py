"""The inner products of a step's two gradients, all that combination rules see of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gramian:
    """Inner products of the two gradients: ``kk``, ``kf`` and ``ff``."""

    kk: float
    kf: float
    ff: float

    @property
    def norm_keep(self) -> float:
        """Length of the keep gradient."""
        return math.sqrt(self.kk)

    @property
    def norm_forget(self) -> float:
        """Length of the forget gradient."""
        return math.sqrt(self.ff)

    @property
    def cosine(self) -> float | None:
        """Cosine between the two gradients; None where one of them is zero."""
        product = self.norm_keep * self.norm_forget
        return self.kf / product if product > 0 else None


def gramian_of(keep: Sequence[Tensor], forget: Sequence[Tensor]) -> Gramian:
    """Inner products of two gradients given as lists of tensors, accumulated in float64.

    One transfer from the device brings all three numbers.
    """
    return Gramian(*products_of(keep, forget).tolist())


def products_of(keep: Sequence[Tensor], forget: Sequence[Tensor]) -> Tensor:
    """The Gramian's three numbers, float64 ``(3,)``, still on the gradients' device."""
    products = []
    for first, second in zip(keep, forget, strict=True):
        a, b = first.reshape(-1).double(), second.reshape(-1).double()
        products.append(torch.stack([torch.dot(a, a), torch.dot(a, b), torch.dot(b, b)]))
    return torch.stack(products).sum(dim=0)
