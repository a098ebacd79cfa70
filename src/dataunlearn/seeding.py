"""Random streams named by numbers, so that no generator state ever needs storing."""

from __future__ import annotations

import numpy as np
import torch


def mix_seed(*names: int) -> int:
    """One 63-bit seed from several non-negative integers, well mixed (numpy's SeedSequence)."""
    state = np.random.SeedSequence(names).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def random_stream(*names: int) -> torch.Generator:
    """A CPU generator for the stream called ``names``, for example (seed, step)."""
    return torch.Generator().manual_seed(mix_seed(*names))
