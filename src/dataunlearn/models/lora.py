"""Low-rank adapters (Hu et al. 2022, arXiv 2106.09685): add, switch off, save and merge them.

The two-gradient step then keeps gradients and moments for the adapter only. The result is an
ordinary diffusers LoRA, which ``pipeline.load_lora_weights`` loads and ``unload_lora_weights``
removes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dataunlearn.conditioning import Cond
from dataunlearn.models.base import DiffusionModel
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.files import make_readable, replace_folder, temporary_folder
from dataunlearn.runtime.seeding import mix_seed

ADAPTER = "unlearning"


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter on some of the network's linear layers.

    Args:
        rank: Its rank.
        alpha: Its scale times the rank; None takes the rank, so that the scale is 1.
        targets: Ends of the names of the layers that it adapts; the default is attention.
    """

    rank: int = 16
    alpha: int | None = None
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.rank >= 1, f"lora.rank must be at least 1, not {self.rank}")
        require(self.alpha is None or self.alpha > 0, f"lora.alpha must be above 0: {self.alpha}")
        require(bool(self.targets), "lora.targets must name at least one layer")


def network_of(model: DiffusionModel) -> Any:
    """The diffusers network inside the adapter of its family."""
    for name in ("unet", "transformer"):
        if hasattr(model.denoiser, name):
            return getattr(model.denoiser, name)
    raise AssertionError(type(model.denoiser))


def add_lora(model: DiffusionModel, settings: Lora, seed: int) -> None:
    """Freeze the network and add an adapter that changes nothing yet.

    Args:
        model: The model, changed in place.
        settings: The adapter.
        seed: Names its initial weights.

    Raises:
        ValueError: If peft is not installed, the family has no LoRA, or no layer has such a name.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ValueError("LoRA needs peft: pip install 'dataunlearn[lora]'") from error
    if not hasattr(type(model.pipeline), "save_lora_weights"):
        raise ValueError(
            f"diffusers has no LoRA for a {type(model.pipeline).__name__}: leave out --lora"
        )
    network = network_of(model)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or settings.rank,
        target_modules=list(settings.targets),
        init_lora_weights="gaussian",
    )
    network.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(mix_seed(seed))
        try:
            network.add_adapter(config, adapter_name=ADAPTER)
        except ValueError as error:
            raise ValueError(f"cannot add a LoRA to {settings.targets}: {error}") from error


def save_lora(model: DiffusionModel, folder: Path) -> None:
    """Write the adapter as a diffusers LoRA, whole or not at all."""
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    network = network_of(model)
    weights = get_peft_model_state_dict(network, adapter_name=ADAPTER)
    kind = "unet" if hasattr(model.denoiser, "unet") else "transformer"
    with temporary_folder(folder) as temporary:
        type(model.pipeline).save_lora_weights(
            str(temporary),
            **{
                f"{kind}_lora_layers": convert_state_dict_to_diffusers(weights),
                f"{kind}_lora_adapter_metadata": network.peft_config[ADAPTER].to_dict(),
            },
        )
        make_readable(temporary)
        replace_folder(temporary, folder)


def merge_lora(model: DiffusionModel) -> None:
    """Add the adapter to the network's own weights and take it off."""
    network = network_of(model)
    network.fuse_lora(adapter_names=[ADAPTER])
    network.unload_lora()


class WithoutLora(nn.Module):
    """The model without its adapter: what it was before, at no cost in memory.

    Args:
        denoiser: The adapted model's denoiser.
        network: The network inside it that has the adapter.
    """

    def __init__(self, denoiser: nn.Module, network: Any) -> None:
        super().__init__()
        self.run, self.network = [denoiser], [network]  # lists: not a part of this module

    def forward(self, noisy: Tensor, t: Tensor, cond: Cond | None = None) -> Tensor:
        """The prediction without the adapter, ``(B, *shape)``."""
        with without_adapter(self.network[0]):
            prediction: Tensor = self.run[0](noisy, t, cond)
        return prediction


@contextmanager
def without_adapter(network: Any) -> Iterator[None]:
    """Switch the adapter off for a while."""
    network.disable_adapters()
    try:
        yield
    finally:
        network.enable_adapters()
