"""What counts as running out of memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dataunlearn.runtime.memory import advice, is_out_of_memory


def test_the_allocators_own_errors_are_known() -> None:
    """Those of torch and NumPy when asked for a petabyte, and what a GPU says."""
    for allocate in (
        lambda: torch.empty(2**50, dtype=torch.uint8),
        lambda: np.ones(2**50, dtype=np.uint8),
    ):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value)
        assert "--batch_size" in advice(caught.value)
        assert "\n" not in advice(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
