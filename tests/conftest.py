"""Fixtures shared by the tests: tiny models and pictures, made in a moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import nn

from dataunlearn.data import ArrayImages
from dataunlearn.models import DiffusionModel
from dataunlearn.models.families import wrap_pipeline
from dataunlearn.prediction import FLOW, PREDICTION_TYPES
from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair

if "PYTEST_XDIST_WORKER" in os.environ:
    cores = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    torch.set_num_threads(cores)
    os.environ.setdefault("OMP_NUM_THREADS", str(cores))  # for commands that tests run


TINY_UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "block_out_channels": (8,),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",),
}


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither read nor write what commands keep in the user's cache folder."""
    monkeypatch.setattr("dataunlearn.data.files.cache_file", lambda: None)


@pytest.fixture
def tiny_unet() -> dict[str, Any]:
    """Arguments of a ``UNet2DModel`` with 10,593 parameters on 8x8 grey pictures."""
    return dict(TINY_UNET)


@pytest.fixture
def make_unet() -> Callable[..., UNet2DModel]:
    """``make_unet(seed=0, **changes)``: a tiny network, its weights named by the seed."""

    def make(seed: int = 0, **changes: Any) -> UNet2DModel:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return UNet2DModel(**TINY_UNET | changes)

    return make


@pytest.fixture
def make_model(make_unet: Callable[..., UNet2DModel]) -> Callable[..., DiffusionModel]:
    """``make_model(seed=0, **changes)``: the tiny network in a pipeline, wrapped."""

    def make(seed: int = 0, **changes: Any) -> DiffusionModel:
        pipeline = DDPMPipeline(make_unet(seed, **changes), DDPMScheduler())
        return wrap_pipeline(pipeline)

    return make


@pytest.fixture
def programs_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that every run of a compiled program lengthens; programs are traced alone."""
    ran: list[str] = []
    compile_it = torch.compile

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        def run(*inputs: object) -> object:
            ran.append("ran")
            return graph.forward(*inputs)

        return run

    def traced(call: Callable[..., object], *, dynamic: bool | None) -> Callable[..., object]:
        return compile_it(call, backend=backend, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", traced)
    torch._dynamo.reset()
    return ran


@pytest.fixture
def make_images() -> Callable[..., ArrayImages]:
    """``make_images(count, seed=0, labels=None)``: random 8x8 grey pictures."""

    def make(count: int, seed: int = 0, labels: list[int] | None = None) -> ArrayImages:
        pixels = np.random.default_rng(seed).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
        return ArrayImages(pixels, labels=None if labels is None else np.array(labels))

    return make


@pytest.fixture
def make_process() -> Callable[..., ForwardProcess]:
    """``make_process(prediction_type)``: the linear DDPM process in float64, or rectified flow."""

    def make(name: str = "epsilon", num_train_timesteps: int = 1000) -> ForwardProcess:
        if name == "flow_prediction":
            return ForwardProcess(num_train_timesteps, FLOW)
        betas = torch.linspace(1e-4, 0.02, num_train_timesteps, dtype=torch.float64)
        return ForwardProcess(
            num_train_timesteps, PREDICTION_TYPES[name], (1 - betas).cumprod(dim=0)
        )

    return make


@pytest.fixture
def make_pair() -> Callable[..., Pair]:
    """``make_pair(num_pairs)``: random pairs of as many different forget images.

    ``gap`` scales the difference of the two sides.
    """

    def make(
        num_pairs: int = 6,
        shape: tuple[int, ...] = (1, 4, 4),
        *,
        seed: int = 0,
        gap: float = 1.0,
        low: int = 1,
        high: int = 1000,
        classes: int = 0,
    ) -> Pair:
        generator = torch.Generator().manual_seed(seed)
        keep = torch.randn(num_pairs, *shape, generator=generator)
        forget = keep + gap * torch.randn(num_pairs, *shape, generator=generator)
        t = torch.randint(low, high, (num_pairs,), generator=generator)
        noise = torch.randn(num_pairs, *shape, generator=generator)
        cond = torch.randint(classes, (num_pairs,), generator=generator) if classes else None
        return Pair(keep, forget, t, noise, cond, cond, torch.arange(num_pairs))

    return make


class ToyDenoiser(nn.Module):
    """Two convolutions, a time and a class embedding; one parameter unused, one frozen.

    Records the sizes of the batches it is run on, forward and backward.
    """

    def __init__(self, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.time = nn.Linear(1, 4)
        self.label = nn.Embedding(max(classes, 1), 4)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(4, channels, 3, padding=1)
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.ones(4, 1, 1), requires_grad=False)
        self.forward_batches: list[int] = []
        self.backward_batches: list[int] = []

    def forward(
        self, noisy: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        self.forward_batches.append(len(noisy))
        time = self.time(t[:, None].to(noisy.dtype) / 1000)
        hidden = self.first(noisy) + time[..., None, None]
        if cond is not None:
            hidden = hidden + self.label(cond)[..., None, None]
        prediction: torch.Tensor = self.second(self.dropout(torch.tanh(self.frozen * hidden)))
        if prediction.requires_grad:
            prediction.register_hook(lambda grad: self.backward_batches.append(len(grad)))
        return prediction


@pytest.fixture
def make_toy() -> Callable[..., ToyDenoiser]:
    """``make_toy()``: a seeded ``ToyDenoiser``, its dropout on."""

    def make(
        channels: int = 1, classes: int = 0, dropout: float = 0.0, seed: int = 0
    ) -> ToyDenoiser:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return ToyDenoiser(channels, classes, dropout)

    return make
