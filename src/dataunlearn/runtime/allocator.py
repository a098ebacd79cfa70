"""Freed memory stays with the process: on a CPU the pages of activations cost a tenth of a step.

The C library of most Linux systems gives large blocks back as soon as they are freed, and every
layer of the next step asks for them again, zeroed.
"""

from __future__ import annotations

import ctypes
import os
import sys

# From glibc's malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, and what they are set to.
OPTIONS = ((-1, 2**31 - 1), (-2, 64 * 2**20), (-3, 2**30))


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed; the peak stays the same.

    Returns:
        Whether it does: not with another C library, nor where the environment has settings for it.
    """
    has_settings = any(name.startswith("MALLOC_") for name in os.environ)
    if has_settings or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*option) == 1 for option in OPTIONS)
