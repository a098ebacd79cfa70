"""Compiled blocks compute what the blocks compute, and leave no trace."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from dataunlearn.models import DiffusionModel
from dataunlearn.models.compiling import as_written, compiled, repeated_blocks


def test_blocks_are_the_outermost_that_repeat(make_model: Callable[..., DiffusionModel]) -> None:
    blocks = list(repeated_blocks(make_model().denoiser))
    assert {type(block).__name__ for block in blocks} == {"ResnetBlock2D", "Attention"}
    inside = {id(part) for block in blocks for part in block.modules() if part is not block}
    assert not inside & {id(block) for block in blocks}


def test_predictions_are_the_same_and_nothing_stays(
    make_model: Callable[..., DiffusionModel], programs_run: list[str]
) -> None:
    model = make_model()
    net = model.denoiser.eval()
    noisy, t = torch.randn(3, *model.shape), torch.tensor([10, 500, 900])
    before, names = net(noisy, t, None), list(net.state_dict())
    with compiled([net]):
        assert torch.allclose(before, net(noisy, t, None), atol=1e-6)
        assert len(programs_run) >= len(list(repeated_blocks(net)))
        programs_run.clear()
        copy.deepcopy(net)(noisy, t, None)
        with as_written():
            net(noisy, t, None)
        assert programs_run == []
        assert list(net.state_dict()) == names
    net(noisy, t, None)
    assert programs_run == []


def test_a_network_without_such_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to compile"), compiled([nn.Linear(2, 2)]):
        pass
