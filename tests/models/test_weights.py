"""Weights that were saved inside something: read as they are meant, or refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from dataunlearn.models import load_model
from dataunlearn.models.parts import networks_of
from tiny_pipelines import stable_diffusion, stable_diffusion_3

Tensors = dict[str, Tensor]
FILES = {
    "unet": ("unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.bin"),
    "text_encoder": ("text_encoder/model.safetensors", "text_encoder/pytorch_model.bin"),
    "vae": ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin"),
}


def of_parts(ways: Iterable[str]) -> list[tuple[str, str]]:
    """Every way for the unet, and the first two for the other parts."""
    first, second, *others = ways
    pairs = [(part, way) for part in FILES for way in (first, second)]
    return [*pairs, *(("unet", way) for way in others)]


def prefixed(found: Tensors, prefix: str) -> Tensors:
    return {f"{prefix}{name}": value for name, value in found.items()}


def inside(found: Tensors) -> Tensors:
    """As where a network's own parts were compiled."""
    return {name.replace(".", "._orig_mod.", 1): value for name, value in found.items()}


def every_second(found: Tensors) -> Tensors:
    return {f"module.{n}" if i % 2 else n: value for i, (n, value) in enumerate(found.items())}


READ: dict[str, Callable[[Tensors], Any]] = {
    "DataParallel": lambda found: prefixed(found, "module."),
    "torch.compile": lambda found: prefixed(found, "_orig_mod."),
    "both": lambda found: prefixed(found, "_orig_mod.module."),
    "parts compiled": inside,
    "some parts wrapped": every_second,
    "an attribute's name": lambda found: prefixed(found, "model.diffusion."),
    "AveragedModel": lambda found: prefixed(found, "module.") | {"n_averaged": torch.tensor(3)},
}
NESTED: dict[str, Callable[[Tensors], Any]] = {
    "state_dict": lambda found: {"state_dict": found, "epoch": 3},
    "state_dict of a wrapper": lambda found: {"state_dict": prefixed(found, "module.")},
    "two levels": lambda found: {"checkpoint": {"model": prefixed(found, "unet.")}},
    "beside an optimizer": lambda found: {
        "model": found,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-3}]},
    },
    "beside a number": lambda found: {**found, "epoch": 3},
    "beside an average without names": lambda found: {
        "model": found,
        "ema": {"decay": 0.9, "shadow_params": list(found.values())},
    },
}
REFUSED: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "an average without names": (
        lambda found: {"decay": 0.9, "shadow_params": list(found.values())},
        r"tensors without their names \(shadow_params\)",
    ),
    "a model and its average": (
        lambda found: {"model": found, "ema": found},
        r"several sets of weights that fit \(model, ema\)",
    ),
    "a list": (lambda found: list(found.values()), "holds a list, and no tensors by their names"),
    "one tensor": (lambda found: next(iter(found.values())), "holds a Tensor, and no tensors"),
    "nothing": (lambda found: {}, "tensors are missing"),
    "a part of it": (
        lambda found: {"state_dict": dict(list(prefixed(found, "module.").items())[1:])},
        "tensors are missing",
    ),
    "names that fall together": (
        lambda found: found | {"module.conv_in.weight": torch.ones(2)},
        "1 tensors are none of it",
    ),
    "a LoRA": (
        lambda found: {
            name.replace(".weight", ".base_layer.weight"): v for name, v in found.items()
        },
        "a LoRA that is not merged: before saving call pipeline.fuse_lora",
    ),
}


@pytest.fixture(scope="session")
def made_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "sd"
    stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def before(made_sd: Path) -> Tensors:
    return weights_of(made_sd)


@pytest.fixture
def sd(made_sd: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made_sd, tmp_path / "sd"))


def weights_of(folder: Path) -> Tensors:
    networks = networks_of(load_model(folder).pipeline)
    return {
        f"{part}.{name}": value
        for part, network in networks.items()
        for name, value in network.state_dict().items()
    }


def assert_same(first: Tensors, second: Tensors) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def pickled(folder: Path, part: str, change: Callable[[Tensors], Any]) -> None:
    """A part's weights, changed, as torch.save writes them."""
    safe, plain = (folder / name for name in FILES[part])
    torch.save(change(load_file(safe)), plain)
    safe.unlink()


@pytest.mark.parametrize(("part", "wrapper"), of_parts(READ))
def test_names_of_a_wrapper(
    before: Tensors, sd: Path, part: str, wrapper: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = sd / FILES[part][0]
    save_file(READ[wrapper](load_file(path)), path)
    assert_same(weights_of(sd), before)
    assert f"{part}: its weights were saved inside something" in caplog.text


@pytest.mark.parametrize(("part", "nesting"), of_parts(NESTED))
def test_a_training_state_around_it(before: Tensors, sd: Path, part: str, nesting: str) -> None:
    pickled(sd, part, NESTED[nesting])
    assert_same(weights_of(sd), before)


@pytest.mark.parametrize(("part", "content"), of_parts(REFUSED))
def test_what_cannot_be_read_is_named(sd: Path, part: str, content: str) -> None:
    change, words = REFUSED[content]
    pickled(sd, part, change)
    with pytest.raises(ValueError, match=f"{part}.*{words}") as caught:
        load_model(sd)
    assert "\n" not in str(caught.value)


def test_in_shards(before: Tensors, sd: Path) -> None:
    path = sd / FILES["unet"][0]
    names = list(load_file(path))
    halves = {name: 1 + 2 * index // len(names) for index, name in enumerate(names)}
    for half in (1, 2):
        held = {f"module.{n}": v for n, v in load_file(path).items() if halves[n] == half}
        save_file(held, path.with_stem(f"{path.stem}-0000{half}-of-00002"))
    at = {
        f"module.{n}": f"{path.stem}-0000{half}-of-00002.safetensors" for n, half in halves.items()
    }
    index = {"metadata": {"total_size": 0}, "weight_map": at}
    path.with_suffix(".safetensors.index.json").write_text(json.dumps(index))
    path.unlink()
    assert_same(weights_of(sd), before)


def test_half_precision_of_one_variant(before: Tensors, sd: Path) -> None:
    path = sd / FILES["unet"][0]
    half = {f"module.{name}": value.half() for name, value in load_file(path).items()}
    save_file(half, path.with_suffix(".fp16.safetensors"))
    path.unlink()
    found = weights_of(sd)
    for name, value in before.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "text_encoder_3", "vae"])
def test_parts_of_stable_diffusion_3(tmp_path: Path, part: str) -> None:
    stable_diffusion_3().save_pretrained(tmp_path)
    before = weights_of(tmp_path)
    (path,) = (tmp_path / part).glob("*.safetensors")
    save_file(prefixed(load_file(path), "module."), path)
    assert_same(weights_of(tmp_path), before)


def test_a_bare_unet(make_unet: Any, tmp_path: Path) -> None:
    DDPMPipeline(make_unet(), DDPMScheduler()).save_pretrained(tmp_path)
    before = weights_of(tmp_path)
    path = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    save_file(prefixed(load_file(path), "module."), path)
    assert_same(weights_of(tmp_path / "unet"), before)
