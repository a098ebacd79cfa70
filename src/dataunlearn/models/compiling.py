"""Compiled blocks: a network's repeated blocks through ``torch.compile``, while it is trained.

Blocks are compiled rather than the network: a network has dozens of them of a few kinds, and one
program serves all batch and picture sizes, so that compiling takes a minute or two where the whole
would take ten. Weights, their names and copies of the network stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

BLOCKS = ("ResnetBlock2D", "BasicTransformerBlock", "Attention")
MOST_PROGRAMS = 64  # of a kind of block: its channels, with gradients and without
_PROGRAM = "_compiled_call_impl"  # where ``Module.compile`` puts it


def repeated_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost blocks of the kinds that a network repeats, in the network's order."""
    own = getattr(network, "_repeated_blocks", None) or ()
    for child in network.children():
        if type(child).__name__ in (*BLOCKS, *own):
            yield child
        else:
            yield from repeated_blocks(child)


def compile_blocks(network: nn.Module, *, dynamic: bool = True) -> list[nn.Module]:
    """Compile a network's repeated blocks in place; each is when it first runs.

    Args:
        network: A denoiser or its network.
        dynamic: Whether one program is made for all batch and picture sizes.

    Returns:
        The blocks.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_PROGRAMS)
    torch._functorch.config.donated_buffer = False  # rows of both sides run backward twice
    blocks = list(repeated_blocks(network))
    for block in blocks:
        block.compile(dynamic=dynamic)
    return blocks


@contextmanager
def compiled(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Networks whose repeated blocks are compiled for a while.

    Raises:
        ValueError: If a network has no block of a kind that is known to repeat.
    """
    blocks = [block for network in networks for block in compile_blocks(network)]
    if networks and not blocks:
        raise ValueError(
            f"there is nothing to compile: the network has none of the blocks {', '.join(BLOCKS)}; "
            "leave out --compile"
        )
    try:
        yield
    finally:
        for block in blocks:
            block.__dict__.pop(_PROGRAM, None)


@contextmanager
def as_written() -> Iterator[None]:
    """Compiled networks run as they are written for a while."""
    with torch.compiler.set_stance("force_eager"):
        yield
