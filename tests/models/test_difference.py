"""The difference between two versions: exact in both directions, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline
from safetensors.torch import load_file, save_file

from dataunlearn.cli import main as cli
from dataunlearn.models import DiffusionModel, load_model, save_model
from dataunlearn.models.difference import (
    apply_difference,
    difference_of,
    read_difference,
    write_difference,
)
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.saving import hash_weights
from tiny_pipelines import stable_diffusion

Models = tuple[DiffusionModel, DiffusionModel]


def changed(model: DiffusionModel, scale: float = 1e-3) -> DiffusionModel:
    """A model with its weights moved a little, but for those of its first layer."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for param in list(model.denoiser.parameters())[2:]:
            param += scale * torch.randn(param.shape, generator=generator)
    return model


@pytest.fixture
def versions(make_model: Callable[..., DiffusionModel]) -> Models:
    return make_model(), changed(make_model())


def test_it_goes_there_and_back_exactly(versions: Models, make_model: Any, tmp_path: Path) -> None:
    before, after = versions
    write_difference(difference_of(before, after), tmp_path / "d.safetensors")
    found = read_difference(tmp_path / "d.safetensors")
    assert len(found.bits) == len(list(before.denoiser.parameters())) - 2  # two did not change
    model = make_model()
    apply_difference(model, found)
    assert hash_weights(model) == hash_weights(after)
    apply_difference(model, found, back=True)
    assert hash_weights(model) == hash_weights(before)


def test_half_precision_is_widened(versions: Models) -> None:
    """As everywhere: a version stored as float16 is the float32 model that it loads as."""
    before, after = versions
    after.denoiser.half()
    found = difference_of(before, after)
    apply_difference(before, found)
    assert hash_weights(before) == hash_weights(after)


def test_it_is_applied_to_nothing_else(versions: Models, make_model: Any) -> None:
    before, after = versions
    found = difference_of(before, after)
    with pytest.raises(ValueError, match=r"not the version before the difference$"):
        apply_difference(make_model(1), found)
    with pytest.raises(ValueError, match="but the other one: take-back is for that"):
        apply_difference(after, found)
    with pytest.raises(ValueError, match="but the other one: apply is for that"):
        apply_difference(before, found, back=True)


def test_what_was_altered_is_found(versions: Models, tmp_path: Path) -> None:
    before, after = versions
    path = tmp_path / "d.safetensors"
    write_difference(difference_of(before, after), path)
    facts = read_difference(path)
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] ^= 1
    save_file(
        tensors,
        path,
        {"format": "dataunlearn difference 1", "before": facts.before, "after": facts.after},
    )
    with pytest.raises(ValueError, match="the difference was altered"):
        apply_difference(before, read_difference(path))


@pytest.mark.parametrize("change", ["shape", "name", "type"])
def test_tensors_that_do_not_fit_are_named(change: str, versions: Models, tmp_path: Path) -> None:
    before, after = versions
    found = difference_of(before, after)
    bits = dict(found.bits)
    name = next(iter(bits))
    value = bits.pop(name)
    wrong = {"shape": value.flatten()[:-1], "type": value.long(), "name": value}[change]
    name = "nothing like it" if change == "name" else name
    facts = {"format": "dataunlearn difference 1", "before": found.before, "after": found.after}
    save_file(bits | {name: wrong.contiguous()}, tmp_path / "d.safetensors", facts)
    with pytest.raises(ValueError, match=f"tensor {name} does not fit"):
        apply_difference(before, read_difference(tmp_path / "d.safetensors"))


def test_other_models_have_no_difference(versions: Models, make_model: Any) -> None:
    before, _ = versions
    with pytest.raises(ValueError, match="the same weights"):
        difference_of(before, make_model())
    with pytest.raises(ValueError, match="different architectures"):
        difference_of(before, make_model(layers_per_block=2))
    with pytest.raises(ValueError, match="classes"):
        difference_of(before, make_model(num_class_embeds=3))
    other = changed(make_model())
    other.pipeline.register_modules(
        scheduler=type(other.pipeline.scheduler).from_config(
            other.pipeline.scheduler.config, beta_end=0.03
        )
    )
    with pytest.raises(ValueError, match="different schedulers"):
        difference_of(before, other)


def test_a_text_encoder_that_differs_is_refused() -> None:
    before, after = (wrap_pipeline(stable_diffusion()) for _ in range(2))
    changed(after)
    assert difference_of(before, after).bits
    with torch.no_grad():
        next(after.pipeline.text_encoder.parameters()).add_(1)
    with pytest.raises(ValueError, match="autoencoder, text encoders or tokenizers"):
        difference_of(before, after)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64])
def test_what_is_no_difference_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        read_difference(path)
    save_file({"a": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="no difference between two versions"):
        read_difference(path)
    with pytest.raises(ValueError, match="no such file"):
        read_difference(tmp_path / "elsewhere.safetensors")


def test_through_the_command(
    versions: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = versions
    for name, model in (("before", before), ("after", after)):
        save_model(model, tmp_path / name)
    file = tmp_path / "d.safetensors"
    made = ["--before", str(tmp_path / "before"), "--after", str(tmp_path / "after")]
    assert cli.run(["difference", "save", *made, "--out", str(file)]) == 0
    assert cli.run(["difference", "save", *made, "--out", str(file)]) == 1  # it is there
    assert cli.run(["difference", "save", *made, "--out", str(tmp_path / "d.bin")]) == 1

    def turned(action: str, model: str, out: str) -> int:
        given = ["--model", str(tmp_path / model), "--difference", str(file)]
        return cli.run(["difference", action, *given, "--out", str(tmp_path / out)])

    assert turned("apply", "before", "after again") == 0
    assert turned("take-back", "after again", "before again") == 0
    for name, model in (("after again", after), ("before again", before)):
        assert hash_weights(load_model(tmp_path / name)) == hash_weights(model)
        DDPMPipeline.from_pretrained(str(tmp_path / name))
    assert turned("apply", "before", "after again") == 1  # that folder is there
    capsys.readouterr()
    assert turned("apply", "after", "elsewhere") == 1
    assert "take-back is for that" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()
