"""Networks split among processes (FSDP2), for those whose training does not fit one device.

While it trains, each process holds its part of the parameters, of both gradients and of the
optimizer's moments, and of the frozen copy; a block's weights are gathered while it runs. The
network as it was opened waits on the CPU, and has the new weights at the end, so that what comes
before training and after it knows nothing of parts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dataunlearn.models import DiffusionModel
from dataunlearn.models.compiling import repeated_blocks
from dataunlearn.runtime.processes import share

if TYPE_CHECKING:
    from accelerate import Accelerator


def require_processes(accelerator: Accelerator | None) -> Accelerator:
    """Refuse to split anything in one process alone.

    Returns:
        The processes.

    Raises:
        ValueError: If there are no several ones.
    """
    if accelerator is None or accelerator.num_processes == 1:
        raise ValueError(
            "--shard true splits training among several processes, and this is one alone: start "
            "it with torchrun --nproc-per-node N -m dataunlearn ..., or leave it out"
        )
    return accelerator


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


def own_part(value: Tensor) -> Tensor:
    """This process's part of a tensor; all of one that is not in parts."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with what is in parts put together, on the CPU; every process has to ask for it."""
    return {
        name: value.full_tensor().cpu() if isinstance(value, DTensor) else value
        for name, value in tensors.items()
    }


def like(value: Tensor, given: Tensor) -> Tensor:
    """A whole tensor in parts as ``value`` is; as it is where that is whole, or it is in parts."""
    if not isinstance(value, DTensor) or isinstance(given, DTensor):
        return given
    there = given.to(value.device)
    return distribute_tensor(there, value.device_mesh, value.placements, src_data_rank=None)


def as_gradients(params: Sequence[nn.Parameter], parts: Sequence[Tensor]) -> None:
    """Set the ``.grad`` of parameters in parts to this process's parts of a gradient."""
    for param, part in zip(params, parts, strict=True):
        assert isinstance(param, DTensor)
        param.grad = DTensor.from_local(
            part,
            param.device_mesh,
            param.placements,
            shape=param.shape,
            stride=param.stride(),
        )
