"""The parts of a pipeline: which ones there must be, and in what state.

A pipeline in memory is in whatever state its user left it: in half precision, with adapters, with
parts taken out, frozen. What can be put right is put right; the rest is refused by name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from dataunlearn.runtime.checks import require

SHOWN_TO_NOBODY = ("safety_checker", "image_encoder")  # unlearning runs neither
ADAPTER_MARKS = (".base_layer.", ".lora_")
FIXED_MODULES = ("GaussianFourierProjection",)  # hold parameters that are never trained


def networks_of(pipeline: Any) -> dict[str, nn.Module]:
    """The networks of a pipeline that unlearning runs, by their names."""
    parts: Mapping[str, Any] = getattr(pipeline, "components", {})
    return {
        name: part
        for name, part in parts.items()
        if isinstance(part, nn.Module) and name not in SHOWN_TO_NOBODY
    }


def require_parts(pipeline: Any, names: Sequence[str], source: str) -> None:
    """Refuse a pipeline that lacks a part.

    Raises:
        ValueError: Naming what is missing.
    """
    missing = [name for name in names if getattr(pipeline, name, None) is None]
    require(
        not missing,
        f"{source}: the {type(pipeline).__name__} has no {' and no '.join(missing)}, without which "
        "it cannot be run; load it with all of its parts",
    )


def require_plain_weights(pipeline: Any, source: str) -> None:
    """Refuse networks whose weights cannot be read and changed as they are.

    Raises:
        ValueError: If weights are quantised or not in memory, or an IP-Adapter is loaded.
    """
    for name, network in networks_of(pipeline).items():
        for param in network.parameters():
            require(
                not param.is_meta,
                f"{source}: weights of {name} are not in memory (offloading, a device map): load "
                "the pipeline without",
            )
            require(
                param.is_floating_point(),
                f"{source}: weights of {name} are quantised ({param.dtype}): load the pipeline "
                "without a quantization_config",
            )
    image_prompts = getattr(getattr(pipeline, "unet", None), "config", {})
    require(
        image_prompts.get("encoder_hid_dim_type") != "ip_image_proj",
        f"{source}: an IP-Adapter is loaded, which asks for pictures beside prompts: take it off "
        "with pipeline.unload_ip_adapter()",
    )


def adapters_of(pipeline: Any) -> dict[str, list[str]]:
    """The adapters (LoRA and its like) of each network that has any; "?" where none is named."""
    found = {}
    for name, network in networks_of(pipeline).items():
        keys = (f".{key}" for key in network.state_dict())
        if any(mark in key for key in keys for mark in ADAPTER_MARKS):
            found[name] = sorted(getattr(network, "peft_config", {})) or ["?"]
    return found


def require_no_adapters(pipeline: Any, source: str) -> None:
    """Refuse a pipeline with adapters: what is trained and saved are its networks' own weights.

    Raises:
        ValueError: With how to merge them, or take them off.
    """
    found = adapters_of(pipeline)
    if not found:
        return
    named = "; ".join(f"{', '.join(names)} in {part}" for part, names in found.items())
    fused = any(
        getattr(module, "merged_adapters", None)
        for part in found
        for module in networks_of(pipeline)[part].modules()
    )
    advice = (
        "they are fused already: take off what is left of them with pipeline.unload_lora_weights()"
        if fused
        else "merge them with pipeline.fuse_lora() and then pipeline.unload_lora_weights(), or "
        "take them off with the latter alone"
    )
    raise ValueError(
        f"{source}: the pipeline has adapters loaded ({named}), and unlearning changes and saves a "
        f"network's own weights; {advice}"
    )


def widen(pipeline: Any) -> None:
    """Make float32 of all networks that unlearning runs, in place."""
    for network in networks_of(pipeline).values():
        if any(_is_narrow(value) for value in _tensors(network)):
            nn.Module.to(network, torch.float32)  # diffusers' own warns of layers it would skip


def widened(pipeline: Any) -> Any:
    """The pipeline, if all of its networks are float32; else a copy of which that is true."""
    narrow = {
        name: copy.deepcopy(network)
        for name, network in networks_of(pipeline).items()
        if any(_is_narrow(value) for value in _tensors(network))
    }
    if not narrow:
        return pipeline
    found = copy.copy(pipeline)
    for name, network in narrow.items():
        setattr(found, name, network)
    widen(found)
    return found


def _tensors(network: nn.Module) -> Iterator[torch.Tensor]:
    yield from network.parameters()
    yield from network.buffers()


def _is_narrow(value: torch.Tensor) -> bool:
    return value.is_floating_point() and value.dtype != torch.float32


def make_trainable(network: nn.Module) -> None:
    """Let gradients into all parameters of a network that are meant to be trained.

    Raises:
        ValueError: If they were made where none are recorded.
    """
    require(
        not any(param.is_inference() for param in network.parameters()),
        "the pipeline was made under torch.inference_mode(), so that it cannot be trained: load it "
        "outside",
    )
    for module in network.modules():
        fixed = type(module).__name__ in FIXED_MODULES
        for param in module.parameters(recurse=False):
            param.requires_grad_(not fixed)


@contextmanager
def as_they_were(pipeline: Any) -> Iterator[None]:
    """Afterwards networks are in training mode, and parameters frozen, where they were before."""
    networks = networks_of(pipeline)
    modes = [(m, m.training) for network in networks.values() for m in network.modules()]
    frozen = {
        name: {key for key, param in network.named_parameters() if not param.requires_grad}
        for name, network in networks.items()
    }
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for name, network in networks.items():
            for key, param in network.named_parameters():
                param.requires_grad_(key not in frozen[name])
