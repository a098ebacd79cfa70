"""Random streams named by numbers, so that no generator state ever needs storing."""

from __future__ import annotations

import numpy as np
import torch


def mix_seed(*names: int) -> int:
    """One 63-bit seed from several integers in [0, 2^64), well mixed (numpy's SeedSequence).

    Their number and both halves of each go in, so that (1,) and (1, 0) name different streams.
    """
    words = [word for name in names for word in (name & 0xFFFFFFFF, name >> 32)]
    state = np.random.SeedSequence([len(names), *words]).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def random_stream(*names: int) -> torch.Generator:
    """A CPU generator for the stream called ``names``, for example (seed, step)."""
    return torch.Generator().manual_seed(mix_seed(*names))
