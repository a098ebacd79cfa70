"""The numbers that name random streams, and the seed of evaluations: all of them, in one place."""

from __future__ import annotations

EVALUATION_SEED = 1234  # of everything that is measured, where nothing else is said

# Streams under a training's seed: (seed, stream, step).
KEEP_STREAM, FORGET_STREAM, NOISE_STREAM, OBJECTIVE_STREAM = range(4)
ENCODING_STREAM, DROPOUT_STREAM, PROMPT_STREAM, BUDGET_STREAM = range(4, 8)
LEVEL_STREAM, IMPORTANCE_STREAM = 8, 9
# Under an autoencoder's seed: (seed, stream, step).
ORDER_STREAM, POSTERIOR_STREAM = range(2)
# Under an evaluation's seed.
REFERENCE_STREAM, EMBEDDING_STREAM = 1, 2
# Under the seed of samples of prompts: (seed, stream), 0 for those that are labelled.
MODIFIED_STREAM, PRIOR_STREAM, LESS_GUIDANCE_STREAM = 1, 2, 3
FRESH_STREAM, UNNAMED_STREAM, YARDSTICK_STREAM, TEXT_NOISE_STREAM = 11, 12, 13, 14
