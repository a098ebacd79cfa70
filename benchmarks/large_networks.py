"""What a step costs on the networks of Stable Diffusion 1.4 and CelebA-HQ.

    python benchmarks/large_networks.py stable_diffusion       # wants a GPU of 80 GB
    python benchmarks/large_networks.py celeba_hq --ways bf16 compiled --profile
    python benchmarks/large_networks.py celeba_hq --tiny --device cpu

The published architectures with random weights; 16 pairs of latents or 64 of pictures, AdamW. In
each of the ways a plain fine-tuning step, SISS steps and counterfactual ones take turns. Pairs at
full size lie so far apart that each row carries one side; "two-sided" is the dearest case, pairs
so close that all carry both. "Lagged" knows the lengths of the gradients and needs one backward
pass. A counterfactual step has half as many forget rows besides, and asks a frozen copy about all
of them; "known targets" is the same without asking. "The published loop" re-states what the SISS
paper describes, in float32 with checkpointing: as many rows at once as the paper names, one
forward pass, a backward pass for each side with the graph kept, the second gradient by subtraction.
Prints Markdown tables: median seconds, against the plain step of the same way and of the first
way, peak memory; with ``--profile`` what a lagged step's seconds on the device go to.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from dataunlearn.combine import Combination, Fixed, NormFix
from dataunlearn.conditioning import TextCond
from dataunlearn.models.compiling import compile_blocks
from dataunlearn.models.stable_diffusion import StableDiffusionDenoiser
from dataunlearn.models.unconditional import UnconditionalDenoiser
from dataunlearn.objectives import SISS
from dataunlearn.objectives._base import plain, two_pass
from dataunlearn.process import ForwardProcess
from dataunlearn.questions import Question
from dataunlearn.rows import Pair, Rows, Term
from dataunlearn.runtime.machine import machine, peak_memory
from dataunlearn.training.config import Precision
from dataunlearn.training.engine import GradientEngine
from dataunlearn.training.networks import row_losses
from dataunlearn.views import plain_views

MIB = 2**20
PROMPT_SHAPE = (77, 768)
LAGGED = (1.0, -0.1)  # weights of the two gradients, as lengths of other steps would give them


@dataclass(frozen=True)
class Network:
    """A published architecture and how many pairs a step of its experiment has.

    Attributes:
        shape: Of a sample, (C, H, W).
        pairs: In a step.
        at_once: Rows in a forward pass of the published loop.
        prompts: Whether it takes them.
        schedule: Arguments of its scheduler.
    """

    shape: tuple[int, int, int]
    pairs: int
    at_once: int
    prompts: bool
    schedule: dict[str, Any]

    def tiny(self) -> Network:
        """The same with small samples, to try the script."""
        return replace(self, shape=(self.shape[0], 32, 32), pairs=4, at_once=2)

    def denoiser(self, device: torch.device, *, tiny: bool) -> nn.Module:
        """The denoiser with random weights, in training mode."""
        torch.manual_seed(0)
        with device:
            if self.prompts:
                channels = (32, 64, 64, 64) if tiny else (320, 640, 1280, 1280)
                unet: nn.Module = UNet2DConditionModel(
                    sample_size=self.shape[1],
                    cross_attention_dim=PROMPT_SHAPE[1],
                    attention_head_dim=8,
                    block_out_channels=channels,
                )
                return StableDiffusionDenoiser(unet).train()
            plain_blocks, widths = ["DownBlock2D"] * 4, (128, 128, 256, 256, 512, 512)
            unet = UNet2DModel(
                sample_size=self.shape[1],
                block_out_channels=(32,) * 6 if tiny else widths,
                down_block_types=(*plain_blocks, "AttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
                attention_head_dim=None,
                downsample_padding=0,
                flip_sin_to_cos=False,
                freq_shift=1,
                norm_eps=1e-6,
            )
        return UnconditionalDenoiser(unet).train()


NETWORKS = {
    "stable_diffusion": Network(
        (4, 64, 64),
        16,
        1,
        True,
        {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    ),
    "celeba_hq": Network((3, 256, 256), 64, 4, False, {}),
}


@dataclass(frozen=True)
class Way:
    """A way to run the denoiser."""

    name: str
    precision: Precision = "bfloat16"
    checkpointing: bool = False
    channels_last: bool = False
    compiled: bool = False
    dynamic: bool = False


WAYS = {
    "bf16": Way("bfloat16"),
    "last": Way("bfloat16, channels last", channels_last=True),
    "compiled": Way("bfloat16, channels last, compiled", channels_last=True, compiled=True),
    "any_size": Way(
        "bfloat16, channels last, compiled for any size",
        channels_last=True,
        compiled=True,
        dynamic=True,
    ),
    "in_order": Way("bfloat16, compiled", compiled=True),
    "published": Way("float32, checkpointing", "float32", checkpointing=True),
}


@dataclass(frozen=True)
class Draws:
    """What the rows of steps are drawn from.

    Attributes:
        network: Whose.
        process: Its forward process.
    """

    network: Network
    process: ForwardProcess

    def pair(self, distance: float, t: int) -> Pair:
        """Pairs whose partners lie ``distance`` standard deviations apart."""
        draw, count = torch.Generator().manual_seed(1), self.network.pairs
        shape = (count, *self.network.shape)
        keep, step, noise = (torch.randn(shape, generator=draw) for _ in range(3))
        prompt = None
        if self.network.prompts:
            prompt = TextCond({"prompt": torch.randn(count, *PROMPT_SHAPE, generator=draw)})
        return Pair(keep, keep + distance * step, torch.full((count,), t), noise, prompt, prompt)

    def siss(self, distance: float) -> Rows:
        """SISS's rows at the last timestep."""
        return SISS(lam=0.5)(self.process, self.pair(distance, 999), torch.Generator())

    def counterfactual(self, *, asks: bool) -> Rows:
        """Rows held to predictions, and half as many forget rows that ask through a view."""
        pair = self.pair(1.4, 500)
        count, shape = self.network.pairs // 2, self.network.shape
        t = pair.t[:count]
        inputs = self.process.add_noise(pair.forget[:count], pair.noise[:count], t)
        question = None
        if asks:
            views, everyone = plain_views(shape), torch.ones(count, dtype=torch.bool)
            view, past = torch.zeros(count, dtype=torch.int64), torch.full((count,), 0.4)
            question = Question(everyone, None, list(views.values()), view, past)
        target = self.process.target(inputs, pair.forget[:count], t)
        rows = two_pass(
            pair,
            plain(self.process, pair.keep, pair),
            (inputs, Term(target, torch.ones(count), question)),
        )
        return replace(rows, keep=rows.keep.asking()) if asks else rows


@dataclass(frozen=True)
class Trained:
    """What takes steps.

    Attributes:
        denoiser: The network.
        way: How it is run.
        optimizer: Its optimizer.
        rows: Most rows in a forward pass.
        frozen: Whom rows ask.
    """

    denoiser: nn.Module
    way: Way
    optimizer: torch.optim.Optimizer
    rows: int
    frozen: nn.Module

    def update(self) -> None:
        """Clip the gradients and take the optimizer's step."""
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        self.optimizer.step()

    def through_the_engine(self, rows: Rows, rule: Combination) -> int:
        """One step through the engine; the rows run backward."""
        params = list(self.denoiser.parameters())
        engine = GradientEngine(micro_batch_rows=self.rows, precision=self.way.precision)
        gradients = engine(self.denoiser, rows, 0, self.frozen, rule.factors)
        known = rule.factors if gradients.in_one_pass else None
        gradients.write(params, *(known or rule(gradients.gramian())))
        self.update()
        return gradients.counts.backward_rows

    def plain(self, rows: Rows) -> int:
        """An ordinary fine-tuning step on as many rows, without any of the library's engine."""
        device = next(self.denoiser.parameters()).device
        self.optimizer.zero_grad()
        low = self.way.precision == "bfloat16"
        for part in torch.arange(len(rows)).split(self.rows):
            some = rows.take(part).to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
                predicted: Tensor = self.denoiser(some.inputs, some.t, some.cond)
            error = (predicted.float() - some.keep.target).square().flatten(1).sum(dim=1)
            (error.sum() / len(rows)).backward()
        self.update()
        return len(rows)

    def published(self, rows: Rows) -> int:
        """A step as the SISS paper describes it."""
        params = list(self.denoiser.parameters())
        device, rows = params[0].device, rows.over_pairs()
        self.optimizer.zero_grad()
        kept = [torch.zeros_like(param) for param in params]
        for part in torch.arange(len(rows)).split(self.rows):
            some = rows.take(part).to(device)
            before = [None if param.grad is None else param.grad.clone() for param in params]
            predicted: Tensor = self.denoiser(some.inputs, some.t, some.cond)
            row_losses(predicted, some.keep).sum().backward(retain_graph=True)
            for keep, param, old in zip(kept, params, before, strict=True):
                keep += param.grad if old is None else param.grad - old  # type: ignore[arg-type,operator]
            row_losses(predicted, some.forget).sum().backward()
        both = [param.grad for param in params if param.grad is not None]
        forget = [total - keep for total, keep in zip(both, kept, strict=True)]
        length = torch.stack([part.norm() for part in forget]).norm()
        for param, keep, part in zip(params, kept, forget, strict=True):
            param.grad = keep - 1.0 / length * part
        self.update()
        return 2 * len(rows)


def prepared(way: Way, denoiser: nn.Module, rows: int) -> Trained:
    """The denoiser run in this way."""
    switch = "enable" if way.checkpointing else "disable"
    getattr(denoiser.unet, f"{switch}_gradient_checkpointing")()
    order = torch.channels_last if way.channels_last else torch.contiguous_format
    denoiser.to(memory_format=order)  # type: ignore[call-overload]
    frozen = deepcopy(denoiser).requires_grad_(False)
    if way.compiled:
        torch._dynamo.reset()
        for network in (denoiser, frozen):
            compile_blocks(network, dynamic=way.dynamic)
    params = list(denoiser.parameters())
    fused = params[0].is_cuda and not way.checkpointing
    optimizer = torch.optim.AdamW(params, lr=1e-5, fused=fused)
    return Trained(denoiser, way, optimizer, rows, frozen)


def steps_of(trained: Trained, draws: Draws) -> dict[str, Callable[[], int]]:
    """What takes turns in a way."""
    far, near = draws.siss(1.4), draws.siss(0.01)
    steps: dict[str, Callable[[], int]] = {"plain": partial(trained.plain, far)}
    if trained.way.checkpointing:
        return steps | {"the published loop": partial(trained.published, near)}
    engine = trained.through_the_engine
    lagged = {"SISS, lagged": partial(engine, near, Fixed(*LAGGED))}
    counterfactual = {
        "counterfactual": partial(engine, draws.counterfactual(asks=True), Fixed(1, 1))
    }
    if trained.way.compiled:  # each size of a batch is a program of its own in some ways
        return steps | lagged | counterfactual
    return steps | {
        "SISS, exact": partial(engine, far, NormFix(ratio=0.1)),
        "SISS, two-sided, exact": partial(engine, near, NormFix(ratio=0.1)),
        **lagged,
        **counterfactual,
        "the same, known targets": partial(engine, draws.counterfactual(asks=False), Fixed(1, 1)),
    }


def timed(step: Callable[[], int], device: torch.device) -> tuple[float, int, int]:
    """Seconds of a step, its peak memory in MiB, and the rows it ran backward."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    backward = step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, peak_memory(device) // MIB, backward


Found = dict[str, list[tuple[float, int, int]]]


def measured(steps: dict[str, Callable[[], int]], rounds: int, device: torch.device) -> Found:
    """Each step's seconds, memory and rows backward; the first round's first."""
    found: Found = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            found[name].append(timed(step, device))
    return found


def print_lines(way: Way, found: Found, first: float) -> None:
    """The table's lines of one way; ``first`` is a plain step's seconds in the first way."""
    medians = {name: statistics.median(s for s, _, _ in runs[1:]) for name, runs in found.items()}
    for name, runs in found.items():
        seconds, ratio = medians[name], medians[name] / medians["plain"]
        _, memory, backward = runs[-1]
        print(
            f"| {way.name} | {name} | {seconds:.3f} | {ratio:.2f} | {seconds / first:.2f} "
            f"| {memory:,} | {backward} | {runs[0][0]:.0f} |",
            flush=True,
        )


def print_profile(step: Callable[[], int], device: torch.device) -> None:
    """What a step's seconds go to."""
    activity = torch.profiler.ProfilerActivity
    kinds = [activity.CPU] + ([activity.CUDA] if device.type == "cuda" else [])
    with torch.profiler.profile(activities=kinds) as profile:
        timed(step, device)
    events = profile.key_averages()
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = sorted(events, key=lambda event: -getattr(event, key))
    total = sum(getattr(event, key) for event in rows)
    print(f"\n{total / 1e3:.0f} ms on the device\n\n| | ms | share | calls |\n|---|---|---|---|")
    for event in rows[:28]:
        spent = getattr(event, key)
        print(f"| {event.key[:90]} | {spent / 1e3:.1f} | {spent / total:.1%} | {event.count} |")
    print(flush=True)


def arguments() -> argparse.Namespace:
    """What the command was given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=64, help="most in a forward pass")
    parser.add_argument("--tiny", action="store_true", help="few channels, small samples")
    parser.add_argument("--profile", action="store_true", help="of the lagged steps")
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


def main() -> None:
    """Time all ways and print the table."""
    given = arguments()
    device, network = torch.device(given.device), NETWORKS[given.network]
    network = network.tiny() if given.tiny else network
    denoiser = network.denoiser(device, tiny=given.tiny)
    process = ForwardProcess.from_scheduler(DDPMScheduler(**network.schedule))
    draws = Draws(network, process)
    size = sum(param.numel() for param in denoiser.parameters())
    print(
        f"{given.network}: {machine(device)}, torch {torch.__version__}, {size:,} parameters, "
        f"{network.pairs} pairs\n"
    )
    heads = ("way", "step", "s", "against plain", "against the first", "MiB", "rows backward")
    print(f"| {' | '.join(heads)} | first |\n{'|---' * 8}|")
    first = None
    for way in (WAYS[name] for name in given.ways):
        rows = network.at_once if way.checkpointing else given.rows
        trained = prepared(way, denoiser, rows)
        steps = steps_of(trained, draws)
        found = measured(steps, 1 if way.checkpointing else given.rounds, device)
        first = first or statistics.median(seconds for seconds, _, _ in found["plain"][1:])
        print_lines(way, found, first)
        if given.profile and not way.checkpointing:
            print_profile(steps["SISS, lagged"], device)
        del trained, steps
        denoiser = denoiser if not way.compiled else deepcopy(denoiser)
        for param in denoiser.parameters():
            param.grad = None


if __name__ == "__main__":
    main()
