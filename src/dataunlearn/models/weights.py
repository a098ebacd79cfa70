"""The weights of one network: read as its config asks for, or refused by the names of tensors.

The libraries fill what a file lacks with random numbers. Here nothing is filled in: what fits only
without the names of a wrapper (DataParallel, torch.compile, an average, a training state around
it) is read without them, and what does not fit at all is refused.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dataunlearn.runtime.checks import require

log = logging.getLogger(__name__)
SUFFIXES = (".safetensors", ".bin")
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
SHARD = re.compile(r"-\d+-of-\d+")
# Tensors that files of text encoders hold beside the encoder: positions, the rest of CLIP or T5.
BESIDE_AN_ENCODER = re.compile(
    r"(^|\.)(position_ids|logit_scale|lm_head\.|decoder\.|vision_model\.|visual_projection\.)"
    r"|^text_projection\."
)
OF_AN_ADAPTER = re.compile(r"(^|\.)(base_layer\.|lora_)")
# What wrappers put into the names of tensors, and what they count beside them.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
COUNTERS = ("n_averaged",)
MOST_COMMON_PARTS = 3
SHOWN_TENSORS = 3


def load_network(
    kind: Any, folder: Path, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> nn.Module:
    """A network from its folder, in evaluation mode.

    Args:
        kind: Its class, of diffusers or transformers.
        folder: Where ``config.json`` and the weights are.
        config: What is in ``config.json``.
        settings: What ``from_pretrained`` is given.

    Raises:
        ValueError: If the weights do not fit, naming some of the tensors. What the libraries raise
            for files that they cannot read is left as it is.
    """
    import transformers

    encoder = issubclass(kind, transformers.PreTrainedModel)
    variant = only_variant(folder)
    given = {**settings, "variant": variant, "output_loading_info": True}
    what = f"{folder.parent}: {folder.name}"
    _require_names(folder, variant, what)
    found: tuple[nn.Module, Mapping[str, Any]] = kind.from_pretrained(str(folder), **given)
    network, info = found
    told = misfit(info, encoder=encoder)
    if told is None:
        return network
    fitting = {}
    for at, tensors in _candidates(_read(folder, variant)):
        if at not in fitting:
            filled, info = _filled(network, folder, config, settings, tensors)
            if misfit(info, encoder=encoder) is None:
                fitting[at] = filled
    require(
        len(fitting) < 2,
        f"{what}'s file holds several sets of weights that fit ({', '.join(fitting)}): leave the "
        "one that is meant",
    )
    for at, network in fitting.items():
        log.warning(
            "%s: its weights were saved inside something (%s): read without",
            what,
            at or "a wrapper",
        )
        return network
    raise ValueError(f"{what}'s weights do not fit its config.json: {told}")


def only_variant(folder: Path) -> str | None:
    """The variant of the weights in a folder; None where there are plain ones.

    Raises:
        ValueError: If there are none, or several variants and no plain ones.
    """
    names = [path.name for path in folder.iterdir() if path.suffix in SUFFIXES]
    found = {_variant(name) for name in names}
    require(bool(found), f"{folder} holds no weights (.safetensors or .bin)")
    if None in found:
        return None
    variants = sorted(str(variant) for variant in found)
    require(
        len(variants) == 1,
        f"{folder} holds the variants {', '.join(variants)} and no plain weights: leave the files "
        "of one",
    )
    log.warning("%s: there is only the variant %s of its weights: taken", folder, variants[0])
    return variants[0]


def _variant(name: str) -> str | None:
    return SHARD.sub("", Path(name).stem).partition(".")[2] or None


def misfit(info: Mapping[str, Any], *, encoder: bool = False) -> str | None:
    """In words, how a file's tensors differ from those that a config asks for; None if they fit.

    Args:
        info: What the library says of loading them.
        encoder: Whether the network may be a part of what the file holds, as text encoders are.
    """
    missing, wrong = sorted(info["missing_keys"]), [key[0] for key in info["mismatched_keys"]]
    more = sorted(info["unexpected_keys"])
    if encoder:
        more = [key for key in more if not BESIDE_AN_ENCODER.search(key)]
    told = [
        f"{len(keys)} tensors {words} ({', '.join(keys[:SHOWN_TENSORS])}"
        f"{', ...' if len(keys) > SHOWN_TENSORS else ''})"
        for keys, words in (
            (missing, "are missing"),
            (wrong, "have another shape than its config.json asks for"),
            (more, "are none of it"),
        )
        if keys
    ]
    if not told:
        return None
    advice = "give the files that belong together"
    if any(OF_AN_ADAPTER.search(key) for key in more):
        advice = (
            "they hold a LoRA that is not merged: before saving call pipeline.fuse_lora() and "
            "pipeline.unload_lora_weights()"
        )
    return f"{'; '.join(told)}. Nothing is filled in: {advice}"


def _read(folder: Path, variant: str | None) -> Any:
    """What the files of a variant hold, as it was saved; those of one network as one."""
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES
        and SHARD.sub("", path.name).partition(".")[0] in STEMS
        and _variant(path.name) == variant
    )
    safe = [path for path in paths if path.suffix == ".safetensors"]
    held = [_read_file(path) for path in safe or paths]
    if len(held) == 1:
        return held[0]
    return {key: value for each in held if isinstance(each, Mapping) for key, value in each.items()}


def _read_file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))


def _require_names(folder: Path, variant: str | None, what: str) -> None:
    """Refuse a file that holds no tensors by name, of which the libraries say nothing useful."""
    if any(path.suffix == ".safetensors" for path in folder.iterdir()):
        return
    found = _read(folder, variant)
    require(
        isinstance(found, Mapping),
        f"{what}'s file holds a {type(found).__name__}, and no tensors by their names: save the "
        "network's state_dict(), or the network with save_pretrained",
    )
    nameless = [
        str(key)
        for key, value in found.items()
        if isinstance(value, (list, tuple)) and any(isinstance(each, Tensor) for each in value)
    ]
    require(
        not nameless or any(True for _ in _sets(found)),
        f"{what}'s file holds tensors without their names ({', '.join(nameless)}), as an average's "
        "own state does: save the averaged network with save_pretrained",
    )


def _sets(found: Any, at: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The sets of tensors by name in what a file holds, with where in it they are."""
    if not isinstance(found, Mapping):
        return
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if tensors:
        yield at, tensors
    for key, value in found.items():
        yield from _sets(value, f"{at}.{key}" if at else str(key))


def _candidates(found: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each set without its wrappers' names, then without parts that all of its names begin with."""
    for at, tensors in _sets(found):
        named = {name: _plain(name) for name in tensors if name not in COUNTERS}
        if len(set(named.values())) < len(named):
            continue
        plain = {named[name]: tensors[name] for name in named}
        for _ in range(MOST_COMMON_PARTS):
            yield at, plain
            first = {name.partition(".")[0] for name in plain}
            if len(first) != 1 or not all("." in name for name in plain):
                break
            plain = {name.partition(".")[2]: value for name, value in plain.items()}


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _filled(
    model: Any,
    folder: Path,
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    tensors: dict[str, Tensor],
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network like ``model`` with these tensors, and how they fit, as the libraries say it."""
    import transformers

    kind: Any = type(model)
    if issubclass(kind, transformers.PreTrainedModel):
        found = kind.from_pretrained(
            None,
            config=kind.config_class.from_pretrained(str(folder)),
            state_dict=dict(tensors),
            output_loading_info=True,
            **{key: value for key, value in settings.items() if key != "local_files_only"},
        )
        return found[0], found[1]
    own = model.state_dict()
    info = {
        "missing_keys": [key for key in own if key not in tensors],
        "unexpected_keys": [key for key in tensors if key not in own],
        "mismatched_keys": [
            (key,) for key in own if key in tensors and own[key].shape != tensors[key].shape
        ],
    }
    if any(info.values()):
        return model, info
    changes = {key: value for key, value in settings.items() if key in config}
    network = kind.from_config({**config, **changes}).eval()
    network.load_state_dict(tensors)
    return network, info
