"""Networks split among processes (FSDP2), for those whose training does not fit one device.

While it trains, each process holds its part of the parameters, of both gradients and of the
optimizer's moments, and of the frozen copy; a block's weights are gathered while it runs. The
network as it was opened waits on the CPU, and has the new weights at the end, so that what comes
before training and after it knows nothing of parts.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from dataunlearn.models import DiffusionModel
from dataunlearn.models.compiling import repeated_blocks
from dataunlearn.runtime.processes import require_processes, share
from dataunlearn.training.parts import whole

if TYPE_CHECKING:
    from accelerate import Accelerator


class Shards:
    """A model's denoiser in parts, from now on until it is given back.

    Args:
        model: The model, whose denoiser is replaced by one in parts; its processes begin with the
            main one's weights.
        frozen: The frozen copy that rows ask, put into parts in place; None where nothing asks.
        accelerator: The processes.

    Raises:
        ValueError: If there is one alone.
    """

    def __init__(
        self, model: DiffusionModel, frozen: nn.Module | None, accelerator: Accelerator | None
    ) -> None:
        self.model, self.accelerator = model, require_processes(accelerator)
        self.whole = model.denoiser
        networks = [self.whole] if frozen is None else [self.whole, frozen]
        for network in networks:
            share(network.state_dict().values(), self.accelerator)
            network.to("cpu")
        mesh = init_device_mesh(self.accelerator.device.type, (self.accelerator.num_processes,))
        model.denoiser = in_parts(copy.deepcopy(self.whole), mesh)
        if frozen is not None:
            in_parts(frozen, mesh)

    @torch.no_grad()
    def give_back(self) -> None:
        """Put the weights as they are now into the denoiser that the model had, on its device."""
        weights = whole(self.model.denoiser.state_dict())
        self.whole.load_state_dict(weights)
        self.model.denoiser = self.whole.to(self.accelerator.device)


def in_parts(network: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Split a network in place: each block that it repeats by itself, then the rest.

    Gradients are summed over processes, not averaged: each has other rows of the same step.
    """
    for module in (*repeated_blocks(network), network):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    return network
