"""Random streams named by numbers, so that no generator state ever needs storing."""

from __future__ import annotations

import numpy as np
import torch

EVALUATION_SEED = 1234  # of everything that is measured, where nothing else is said

# Streams under a training's seed: (seed, stream, step).
KEEP_STREAM, FORGET_STREAM, NOISE_STREAM, OBJECTIVE_STREAM = range(4)
ENCODING_STREAM, DROPOUT_STREAM, PROMPT_STREAM, BUDGET_STREAM = range(4, 8)
# Under an autoencoder's seed: (seed, stream, step).
ORDER_STREAM, POSTERIOR_STREAM = range(2)
# Under an evaluation's seed.
REFERENCE_STREAM = 1
# Under the seed of samples of prompts: (seed, stream), 0 for those that are labelled.
MODIFIED_STREAM, PRIOR_STREAM, LESS_GUIDANCE_STREAM = 1, 2, 3
FRESH_STREAM, UNNAMED_STREAM, YARDSTICK_STREAM, TEXT_NOISE_STREAM = 11, 12, 13, 14


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
