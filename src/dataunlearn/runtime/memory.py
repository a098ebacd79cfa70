"""Running out of memory: what tells it from other errors, and what to do."""

from __future__ import annotations

_SIGNS = ("out of memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the device (or the host) ran out of memory."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def advice(error: BaseException) -> str:
    """What a person is told who asked for more than there is."""
    said = str(error).strip().splitlines()
    return (
        f"out of memory ({said[0] if said else type(error).__name__}); fewer pictures at a time "
        "need less: --batch_size where a model is measured, --micro_batch_rows and then "
        "--batch_pairs where it is trained"
    )
