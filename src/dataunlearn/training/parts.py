"""Tensors of which each process holds a part (torch's ``DTensor``), and the same as whole ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


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
