"""What a model is, whatever folder it lies in."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.latents import TextSpace
from dataunlearn.models.saving import hash_weights
from dataunlearn.runtime.settings import describe


def describe_model(model: DiffusionModel, weights: str | None = None) -> dict[str, Any]:
    """Where a model comes from and what it is, as JSON values.

    Args:
        model: The model.
        weights: :func:`hash_weights` of it, where that is known already.

    Returns:
        ``path``; ``sha256`` of the denoiser's weights; ``other_networks``, that of a text-to-image
        model's autoencoder and text encoders, else None; and the ``scheduler``'s config.
    """
    has_others = isinstance(model.space, TextSpace)
    return {
        "path": model.source,
        "sha256": hash_weights(model) if weights is None else weights,
        "other_networks": hash_other_networks(model) if has_others else None,
        "scheduler": describe_scheduler(model),
    }


def describe_scheduler(model: DiffusionModel) -> dict[str, Any]:
    """The config of a model's scheduler as JSON values, without what the libraries add."""
    config = dict(model.pipeline.scheduler.config)
    found: dict[str, Any] = describe({k: v for k, v in config.items() if not k.startswith("_")})
    return found


# Of a network's config: where it came from, and by which version.
_PASSING = ("transformers_version", "torch_dtype", "dtype")


def hash_other_networks(model: DiffusionModel) -> str:
    """SHA-256 over the autoencoder's and the text encoders' weights, as they are stored.

    The configs of all networks and the tokenizers are part of it: with other ones the same weights
    give other pictures.

    Args:
        model: A text-to-image model.
    """
    space = model.space
    assert isinstance(space, TextSpace)
    digest = hashlib.sha256()
    networks: tuple[nn.Module, ...] = (space.coder.vae, *space.encoders)
    for network in networks:
        for name, value in sorted(network.state_dict().items()):
            content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(content.numpy().tobytes())
    digest.update(json.dumps(_configs(model), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _configs(model: DiffusionModel) -> dict[str, Any]:
    """The configs of a pipeline's networks, and what its tokenizers know, by component."""
    found: dict[str, Any] = {}
    for name, part in model.pipeline.components.items():
        if isinstance(part, PreTrainedTokenizerBase):
            found[name] = [part.get_vocab(), part.special_tokens_map, part.model_max_length]
        elif isinstance(part, nn.Module) and hasattr(part, "config"):
            config: Any = part.config
            values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
            found[name] = {
                key: value
                for key, value in values.items()
                if not key.startswith("_") and key not in _PASSING
            }
    return found
