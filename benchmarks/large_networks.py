"""What a step costs on the denoiser of Stable Diffusion 1.4, against a plain fine-tuning step.

    python benchmarks/stable_diffusion_step.py                         # wants a GPU of 40 GB
    python benchmarks/stable_diffusion_step.py --channels 32 64 64 64 --size 16 --device cpu

The published architecture with random weights, 16 pairs of latents at the last timestep, AdamW. In
each of the ways a plain step, SISS steps and counterfactual ones take turns. At full size
latents lie so far apart that each row carries one side; "two-sided" is the dearest case, pairs so
close that all carry both. A counterfactual step has half as many forget rows besides, and asks a
frozen copy about all of them; "known targets" is the same without asking. Prints a Markdown table:
median seconds, against the plain step of the same way and of the first way, peak memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from dataunlearn.combine import BalancedDescent, Combination, Fixed, NormFix
from dataunlearn.conditioning import TextCond
from dataunlearn.models.stable_diffusion import StableDiffusionDenoiser
from dataunlearn.objectives import SISS
from dataunlearn.objectives._base import plain, two_pass
from dataunlearn.process import ForwardProcess
from dataunlearn.questions import Question
from dataunlearn.rows import Pair, Rows, Term
from dataunlearn.runtime.machine import machine, peak_memory
from dataunlearn.training.config import Precision
from dataunlearn.training.engine import GradientEngine
from dataunlearn.views import plain_views

MIB = 2**20
PROMPT_SHAPE = (77, 768)


@dataclass(frozen=True)
class Way:
    """A way to run the denoiser."""

    name: str
    precision: Precision
    micro_batch_rows: int
    checkpointing: bool = False
    channels_last: bool = False
    compiled: bool = False


WAYS = {
    "bf16": Way("bfloat16", "bfloat16", 32),
    "last": Way("bfloat16, channels last", "bfloat16", 32, channels_last=True),
    "compiled": Way(
        "bfloat16, channels last, compiled blocks",
        "bfloat16",
        32,
        channels_last=True,
        compiled=True,
    ),
    "float32": Way("float32, checkpointing, a row at a time", "float32", 1, checkpointing=True),
}
BLOCKS = ["BasicTransformerBlock", "ResnetBlock2D"]


def make_denoiser(channels: Sequence[int], size: int, device: torch.device) -> nn.Module:
    """Stable Diffusion 1.4's network with random weights, in training mode."""
    torch.manual_seed(0)
    with device:
        unet = UNet2DConditionModel(
            sample_size=size,
            cross_attention_dim=PROMPT_SHAPE[1],
            attention_head_dim=8,
            block_out_channels=tuple(channels),
        )
    return StableDiffusionDenoiser(unet).train()


def make_rows(size: int, num_pairs: int, process: ForwardProcess, distance: float) -> Rows:
    """SISS's rows of latents at t = 999; partners lie ``distance`` standard deviations apart."""
    draw = torch.Generator().manual_seed(1)
    keep, step, noise = (torch.randn(num_pairs, 4, size, size, generator=draw) for _ in range(3))
    prompt = TextCond({"prompt": torch.randn(num_pairs, *PROMPT_SHAPE, generator=draw)})
    t = torch.full((num_pairs,), 999)
    pair = Pair(keep, keep + distance * step, t, noise, prompt, prompt)
    return SISS(lam=0.5)(process, pair, draw)


def counterfactual_rows(size: int, num_pairs: int, process: ForwardProcess, *, asks: bool) -> Rows:
    """Keep rows held to predictions, and half as many forget rows that ask through a view."""
    draw = torch.Generator().manual_seed(2)
    keep, forget, noise = (torch.randn(num_pairs, 4, size, size, generator=draw) for _ in range(3))
    prompt = TextCond({"prompt": torch.randn(num_pairs, *PROMPT_SHAPE, generator=draw)})
    t, count = torch.full((num_pairs,), 500), num_pairs // 2
    pair = Pair(keep, forget, t, noise, prompt, prompt)
    inputs = process.add_noise(forget[:count], noise[:count], t[:count])
    question = None
    if asks:
        views, everyone = plain_views((4, size, size)), torch.ones(count, dtype=torch.bool)
        view, past = torch.zeros(count, dtype=torch.int64), torch.full((count,), 0.4)
        question = Question(everyone, None, list(views.values()), view, past)
    target = process.target(inputs, forget[:count], t[:count])
    rows = two_pass(
        pair, plain(process, keep, pair), (inputs, Term(target, torch.ones(count), question))
    )
    return replace(rows, keep=rows.keep.asking()) if asks else rows


def engine_step(
    denoiser: nn.Module,
    way: Way,
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    rule: Combination,
    frozen: nn.Module | None = None,
) -> tuple[int, int]:
    """One step through the engine; the rows run forward and backward."""
    params = list(denoiser.parameters())
    engine = GradientEngine(micro_batch_rows=way.micro_batch_rows, precision=way.precision)
    gradients = engine(denoiser, rows, 0, frozen, rule.factors)
    known = rule.factors if gradients.in_one_pass else None
    gradients.write(params, *(known or rule(gradients.gramian())))
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
    return gradients.counts.forward_rows, gradients.counts.backward_rows


def plain_step(
    denoiser: nn.Module, way: Way, optimizer: torch.optim.Optimizer, rows: Rows
) -> tuple[int, int]:
    """An ordinary fine-tuning step on as many rows, without any of the library's engine."""
    device = next(denoiser.parameters()).device
    optimizer.zero_grad()
    for part in torch.arange(len(rows)).split(way.micro_batch_rows):
        some = rows.take(part).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=way.precision == "bfloat16"):
            predicted: Tensor = denoiser(some.inputs, some.t, some.cond)
        error = (predicted.float() - some.keep.target).square().flatten(1).sum(dim=1)
        (error.sum() / len(rows)).backward()
    torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
    optimizer.step()
    return len(rows), len(rows)


def timed(step: Callable[[], tuple[int, int]], device: torch.device) -> tuple[float, int, int]:
    """Seconds of a step, its peak memory in MiB, and the rows it ran backward."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    _, backward = step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, peak_memory(device) // MIB, backward


def measure(
    way: Way, denoiser: nn.Module, all_rows: dict[str, Rows], rounds: int
) -> dict[str, list[tuple[float, int, int]]]:
    """Each step's seconds, memory and rows backward, round by round but for the first."""
    device = next(denoiser.parameters()).device
    switch = "enable" if way.checkpointing else "disable"
    getattr(denoiser.unet, f"{switch}_gradient_checkpointing")()
    if way.channels_last:
        denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if way.compiled:
        torch._dynamo.config.recompile_limit = 64  # a block of each shape, in two modes
        torch._functorch.config.donated_buffer = False  # rows of both sides run backward twice
        for module in denoiser.modules():
            if type(module).__name__ in BLOCKS:
                module.compile()
    frozen = deepcopy(denoiser).requires_grad_(False)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-5)
    own = (denoiser, way, optimizer)
    steps = {"plain": partial(plain_step, *own, all_rows["SISS"])}
    for name, rows in all_rows.items():
        rule = NormFix(ratio=0.1) if name.startswith("SISS") else BalancedDescent()
        steps[name] = partial(engine_step, *own, rows, rule, frozen)
    summed = all_rows["Counterfactual, known targets"]
    steps["the same in one pass"] = partial(engine_step, *own, summed, Fixed(1, 1), None)
    found: dict[str, list[tuple[float, int, int]]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            numbers = timed(step, device)
            if number > 0:
                found[name].append(numbers)
    for param in denoiser.parameters():
        param.grad = None
    return found


def print_lines(way: Way, found: dict[str, list[tuple[float, int, int]]], first: float) -> None:
    """The table's lines of one way; ``first`` is a plain step's seconds in the first way."""
    medians = {name: statistics.median(s for s, _, _ in runs) for name, runs in found.items()}
    for name, runs in found.items():
        seconds, ratio = medians[name], medians[name] / medians["plain"]
        _, memory, backward = runs[-1]
        print(
            f"| {way.name} | {name} | {seconds:.3f} | {ratio:.2f} | {seconds / first:.2f} "
            f"| {memory} | {backward} |"
        )


def arguments() -> argparse.Namespace:
    """What the command was given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--size", type=int, default=64, help="height and width of a latent")
    parser.add_argument("--channels", type=int, nargs=4, default=[320, 640, 1280, 1280])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--device", default="cuda")
    return parser.parse_args()


def main() -> None:
    """Time all ways and print the table."""
    given = arguments()
    device = torch.device(given.device)
    denoiser = make_denoiser(given.channels, given.size, device)
    process = ForwardProcess.from_scheduler(
        DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    )
    all_rows = {
        name: make_rows(given.size, given.pairs, process, distance)
        for name, distance in (("SISS", 1.4), ("SISS, two-sided", 0.01))
    }
    for name, asks in (("Counterfactual", True), ("Counterfactual, known targets", False)):
        all_rows[name] = counterfactual_rows(given.size, given.pairs, process, asks=asks)
    size = sum(param.numel() for param in denoiser.parameters())
    print(
        f"{machine(device)}, torch {torch.__version__}, {size:,} parameters, {given.pairs} pairs\n"
    )
    print("| way | step | s | against plain | against plain in bfloat16 | MiB | rows backward |")
    print("|---" * 7 + "|")
    first = None
    for way in (WAYS[name] for name in given.ways):
        found = measure(way, denoiser, all_rows, given.rounds)
        first = first or statistics.median(seconds for seconds, _, _ in found["plain"])
        print_lines(way, found, first)


if __name__ == "__main__":
    main()
