"""Evaluation: every measure on a tiny model, results kept and not measured twice, the errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from safetensors.torch import save_file

from dataunlearn.cli import main as cli
from dataunlearn.data import open_images
from dataunlearn.metrics.catalogue import MEASURES
from dataunlearn.metrics.evaluation import evaluate, price_words, prices
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline

SHAPE = (1, 28, 28)
SMALL: dict[str, dict[str, Any]] = {
    "regeneration": {"copies": 4, "num_steps": 2, "timesteps": (100, 500)},
    "similarity": {"copies": 4, "num_steps": 2},
    "nll": {"num_probes": 1, "tolerance": 1e-1, "num_images": 2},
    "kid": {"num_subsets": 5},
    "inception_score": {"num_splits": 2},
    "membership": {"timesteps": (300,), "num_draws": 1, "num_images": 8, "each_timestep": True},
}


def tiny(seed: int) -> DiffusionModel:
    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )
    model = wrap_pipeline(DDPMPipeline(unet, DDPMScheduler()))
    model.denoiser.eval()
    return model


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return tiny(0)


@pytest.fixture
def inputs(model: DiffusionModel, tmp_path: Path) -> Inputs:
    reference = torch.rand(9, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    save_file({"samples": reference}, tmp_path / "reference.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    return Inputs(
        model,
        forget=open_images(pixels[:2], SHAPE),
        keep=open_images(pixels[1:20], SHAPE),
        held_out=open_images(pixels[20:], SHAPE),
        before=tiny(1),
        reference=tiny(2),
        reference_samples=tmp_path / "reference.safetensors",
        num_samples=24,
        sampling_steps=2,
        shown=False,
    )


def test_every_measure_gives_results_with_intervals(inputs: Inputs, tmp_path: Path) -> None:
    """But those of prompts and of colour pictures, which have tests of their own."""
    chosen = {n: kind for n, kind in MEASURES.items() if n not in ("text_noise", "clip_iqa")}
    measures = {name: kind(**SMALL.get(name, {})) for name, kind in chosen.items()}
    content = evaluate(inputs, measures, tmp_path / "out")
    assert content["measures"].keys() == chosen.keys()
    names = {r["name"] for m in content["measures"].values() for r in m["results"]}
    assert {"copy_frequency", "regeneration_500", "kid", "fid", "nll_keep"} <= names
    assert "reference_kid" in names
    assert {"membership_auc_held_out", "membership_tpr_keep", "memorised_fraction_1"} <= names
    assert {"membership_auc_keep_300", "membership_loss_held_out_300"} <= names
    for measured in content["measures"].values():
        for found in measured["results"]:
            assert np.isfinite(found["value"])
            if found["name"] != "nll_forget" or found["interval"]:
                low, high = found["interval"]
                assert low <= high
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    assert kept["measures"]["kid"] == content["measures"]["kid"]
    table = (tmp_path / "out" / "results.md").read_text()
    assert "| kid |" in table
    assert len(table.splitlines()) == 2 + sum(len(m["results"]) for m in kept["measures"].values())


def test_every_measure_has_a_price_that_its_passes_keep(
    inputs: Inputs, request: pytest.FixtureRequest
) -> None:
    """As many pictures go through the model as was said, within what cannot be known."""
    counted = [0]

    def count(module: Any, given: tuple[Any, ...]) -> None:
        counted[0] += len(given[0])

    for each in (inputs.model, inputs.before, inputs.reference):
        assert each is not None
        request.addfinalizer(each.denoiser.register_forward_pre_hook(count).remove)
    sampling = inputs.num_samples * inputs.sampling_steps
    inexact = {"nll": 4, "membership": 20, "never_seen": 20}  # evaluations, intervals, views
    for name, kind in MEASURES.items():
        if name in ("text_noise", "clip_iqa"):
            continue
        measure = kind(**SMALL.get(name, {}))
        fresh = replace(inputs)
        measure.check(fresh)
        counted[0] = 0
        cost = measure.cost(fresh)
        said = cost.passes + cost.trained + sampling * len(measure.looks_at)
        assert counted[0] == 0, name
        measure(fresh)
        factor = inexact.get(name, 1)
        assert counted[0] <= said, name
        assert said <= counted[0] * factor, name


def test_prices_leave_out_what_is_there(inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    chosen = {name: MEASURES[name](**SMALL.get(name, {})) for name in ("copies", "regeneration")}
    assert list(prices(inputs, chosen)) == ["samples", "copies", "regeneration"]
    assert all(seconds >= 0 for seconds in prices(inputs, chosen).values())
    evaluate(inputs, {"copies": chosen["copies"]}, out)
    assert list(prices(inputs, chosen, out)) == ["regeneration"]
    evaluate(replace(inputs), chosen, out, overwrite=True)
    assert prices(inputs, chosen, out) == {}
    assert price_words({}) == "Everything was measured before."
    assert "in about 3 s" in price_words({"samples": 1.0, "kid": 2.0})


def test_a_second_call_runs_only_what_is_missing(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = evaluate(inputs, {"copies": MEASURES["copies"]()}, out)
    monkeypatch.setattr(MEASURES["copies"], "__call__", None)  # would fail if called
    kid = {"kid": MEASURES["kid"](num_subsets=3)}
    second = evaluate(inputs, {"copies": MEASURES["copies"](), **kid}, out)
    assert second["measures"]["copies"] == first["measures"]["copies"]
    changed = {"kid": MEASURES["kid"](num_subsets=4)}
    third = evaluate(inputs, changed, out)
    assert third["measures"]["kid"]["settings"]["num_subsets"] == 4
    inputs.seed = 5
    with pytest.raises(ValueError, match=r"other settings \(seed: 1234 -> 5\)"):
        evaluate(inputs, changed, out)
    evaluate(inputs, changed, out, overwrite=True)


def test_reference_sets_leave_the_forget_images_out(inputs: Inputs) -> None:
    """Keep row 0 is forget row 1; 19 keep rows leave 18."""
    assert len(inputs.keep_images) == 18
    gap = (inputs.keep_images[:, None] - inputs.originals).abs().flatten(2).amax(2)
    assert gap.min() > 0
    assert len(inputs.held_out_images) == 10


def test_missing_inputs_are_errors_before_any_work(model: DiffusionModel, tmp_path: Path) -> None:
    bare = Inputs(model, shown=False)
    for name, message in (
        ("copies", "CopyFrequency needs --forget"),
        ("kid", "KID needs --keep"),
        ("memorised", "MemorisedFraction needs --forget, --before"),
        ("reference_kid", "ReferenceKID needs --reference-samples"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(bare, {name: MEASURES[name]()}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_samples_of_a_reference_are_read_and_checked(inputs: Inputs, tmp_path: Path) -> None:
    """The reference's own samples are nearer to it than noise; a file without samples is named."""
    evaluate(inputs, {"copies": MEASURES["copies"]()}, tmp_path / "out")  # leaves its samples
    measure = MEASURES["reference_kid"](embedder="pixels")
    (far,) = measure(inputs)
    inputs.reference_samples = tmp_path / "out" / "samples.safetensors"
    del inputs.samples_of_reference
    (near,) = measure(inputs)
    assert near.value < far.value / 10
    inputs.reference_samples = tmp_path / "nowhere.safetensors"
    del inputs.samples_of_reference
    with pytest.raises(ValueError, match="holds no samples"):
        measure.check(inputs)


def test_command(
    inputs: Inputs, model: DiffusionModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.pipeline.save_pretrained(tmp_path / "model")
    np.save(tmp_path / "keep.npy", np.random.default_rng(0).integers(0, 256, (9, 28, 28), "u1"))
    command = ["evaluate", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    command += ["--keep", str(tmp_path / "keep.npy"), "--num-samples", "8", "--sampling-steps", "2"]
    assert cli.run([*command, "--metrics", "kid,fid", "--kid.num_subsets", "3"]) == 0
    assert "| kid |" in capsys.readouterr().err
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    assert kept["measures"]["kid"]["settings"]["num_subsets"] == 3
    assert cli.run([*command, "--metrics", "kid,sharpness"]) == 1
    assert "no measure sharpness; --metrics takes" in " ".join(capsys.readouterr().err.split())
    assert cli.run([*command, "--metrics", "fid", "--kid.num_subsets", "3"]) == 1
    assert "--kid has settings but --metrics does not name it" in capsys.readouterr().err
    assert cli.run([*command, "--metrics", "copies"]) == 1
    assert "CopyFrequency needs --forget" in capsys.readouterr().err
