"""Train the autoencoder of a latent diffusion model from scratch."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from dataunlearn.base_models.autoencoder_measures import latent_deviation
from dataunlearn.base_models.config import Autoencoder
from dataunlearn.data import ImageSet
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.files import make_readable, replace_folder, temporary_folder
from dataunlearn.runtime.own_files import FINISHED_FILE, SETTINGS_FILE
from dataunlearn.runtime.run_folder import run_folder
from dataunlearn.runtime.sealed import read_sealed
from dataunlearn.runtime.seeding import mix_seed, random_stream
from dataunlearn.runtime.settings import describe, differences
from dataunlearn.runtime.streams import ORDER_STREAM, POSTERIOR_STREAM
from dataunlearn.training.checkpoint import Checkpoint, load_optimizer_tensors, optimizer_tensors
from dataunlearn.training.loop import Loop, Record
from dataunlearn.training.optimizer import make_optimizer
from dataunlearn.training.pairs import EpochOrder
from dataunlearn.training.two_gradients import NonFiniteError


@dataclass(frozen=True, eq=False)
class AutoencoderLoss:
    """A batch's loss, and its two terms without gradients; scalars.

    Attributes:
        total: reconstruction + kl_weight * kl.
        reconstruction: Mean |x - x̂|, pictures in [-1, 1].
        kl: Mean over latent dimensions of KL(posterior, N(0, 1)), in nats.
    """

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def build_autoencoder(config: Autoencoder) -> AutoencoderKL:
    """A freshly initialised autoencoder; the seed names the initial weights."""
    with torch.random.fork_rng():
        torch.manual_seed(mix_seed(config.seed))
        return AutoencoderKL(**config.vae)


def autoencoder_loss(
    vae: AutoencoderKL, pictures: Tensor, kl_weight: float, generator: torch.Generator
) -> AutoencoderLoss:
    """The loss of one batch, with one sample of each picture's posterior (Kingma & Welling 2014).

    Both terms are means over dimensions instead of sums, so that ``kl_weight`` does not depend on
    the sizes of pictures and latents.

    Args:
        vae: The autoencoder.
        pictures: ``(B, C, H, W)`` in [-1, 1], on its device.
        kl_weight: Weight of the KL term.
        generator: Draws the posterior samples.
    """
    posterior = vae.encode(pictures).latent_dist
    restored = vae.decode(posterior.sample(generator)).sample
    reconstruction = (pictures - restored).abs().mean()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    return AutoencoderLoss(reconstruction + kl_weight * kl, reconstruction.detach(), kl.detach())


def train_autoencoder(
    config: Autoencoder,
    images: ImageSet,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    shown: bool = True,
) -> AutoencoderKL:
    """Train, scale the latents to standard deviation 1, and save to ``out/vae``.

    An unfinished run in ``out`` with the same settings and pictures is resumed, a finished one
    loaded. ``scaling_factor`` of the result is one over the latents' standard deviation.

    Args:
        config: What to train.
        images: Training pictures of the autoencoder's size.
        out: Run folder: checkpoints, ``log.jsonl`` and the result.
        device: Where to train.
        shown: Whether to draw progress.

    Returns:
        The autoencoder in evaluation mode, on ``device``.

    Raises:
        ValueError: If the pictures do not fit, or ``out`` holds something else.
        NonFiniteError: On a non-finite loss or gradient.
        InterruptedRunError: After Ctrl-C or a termination signal, with the state saved.
    """
    check_images(config, images)
    content = hashlib.sha256("".join(images.digests()).encode()).hexdigest()
    settings = {"autoencoder": config, "images": content}
    if (out / FINISHED_FILE).is_file():
        return _load_finished(settings, out).to(device).eval()
    vae = build_autoencoder(config)
    with run_folder(out, settings) as run:
        AutoencoderTrainer(config, images, vae.to(device)).run(out, shown=shown)
        vae.eval()
        scale = 1 / latent_deviation(vae, images, config.seed, config.batch_images)
        vae.register_to_config(scaling_factor=scale)
        with temporary_folder(out / "vae") as temporary:
            vae.save_pretrained(temporary)
            make_readable(temporary)
            replace_folder(temporary, out / "vae")
        run.finish()
    return vae


def check_images(config: Autoencoder, images: ImageSet) -> None:
    """Refuse pictures that the autoencoder does not take.

    Raises:
        ValueError: If there is none, or the shape differs.
    """
    require(len(images) > 0, "there is no picture to train the autoencoder on")
    channels = {config.vae.get(name, 3) for name in ("in_channels", "out_channels")}
    size = config.vae["sample_size"]
    require(
        channels == {images.shape[0]} and images.shape[1:] == (size, size),
        f"the pictures are {images.shape}, but vae has {sorted(channels)} channels and sample_size "
        f"{size}: change either",
    )


class AutoencoderTrainer:
    """Steps of one run; each is a function of the seed and its number.

    Args:
        config: What to train.
        images: Training pictures.
        vae: The network, changed in place.
    """

    def __init__(self, config: Autoencoder, images: ImageSet, vae: AutoencoderKL) -> None:
        self.config, self.images, self.vae = config, images, vae
        self.training = config.training()
        self.params = list(vae.parameters())
        self.optimizer = make_optimizer(self.params, self.training)
        self.order = EpochOrder(len(images), config.seed, ORDER_STREAM)
        self.steps_done, self.ended, self.seconds = 0, False, 0.0

    def run(self, out: Path, *, shown: bool) -> None:
        """Train to the last step, from the newest checkpoint in ``out`` if there is one."""
        loop = Loop(self.training, out, description="autoencoder", shown=shown)
        loop.resume(self)
        with closing(loop.steps(self)) as steps:
            for _ in steps:
                pass

    def note(self, record: Record) -> str:
        """The loss, for the progress bar."""
        return f"loss {record['loss']:.3g}"

    def step(self, number: int) -> Record:
        """One update of the weights; returns its log record."""
        started = time.perf_counter()
        self.vae.train()
        pictures = self.images.batch(self.order.batch(number, self.config.batch_images))
        generator = random_stream(self.config.seed, POSTERIOR_STREAM, number)
        pictures = pictures.to(self.vae.device)
        loss = autoencoder_loss(self.vae, pictures, self.config.kl_weight, generator)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss.total)
        norm = float(torch.nn.utils.clip_grad_norm_(self.params, self.training.clip_norm))
        total = float(loss.total.detach())
        if not math.isfinite(norm) or not math.isfinite(total):
            raise NonFiniteError(
                f"step {number + 1}: non-finite loss or gradient. Lower learning_rate or raise "
                "warmup_steps, and train in another folder"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.rate(number)
        self.optimizer.step()
        return {
            "step": number + 1,
            "loss": total,
            "reconstruction": float(loss.reconstruction),
            "kl": float(loss.kl),
            "norm": norm,
            "learning_rate": self.training.rate(number),
            "seconds": time.perf_counter() - started,
        }

    def state(self) -> Checkpoint:
        """Weights and moments."""
        tensors = {f"model.{name}": value for name, value in self.vae.state_dict().items()}
        return Checkpoint(self.steps_done, tensors | optimizer_tensors(self.optimizer), {})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back what :meth:`state` took out."""
        self.vae.load_state_dict(checkpoint.part("model"))
        load_optimizer_tensors(self.optimizer, checkpoint.tensors)
        self.steps_done = checkpoint.step


def _load_finished(settings: dict[str, Any], out: Path) -> AutoencoderKL:
    """The result of a finished run, if it is the run that is asked for."""
    found = read_sealed(out / SETTINGS_FILE)
    changed = differences(found, describe(settings), declared=settings)
    require(
        not changed,
        f"{out} holds a finished autoencoder of another run ({'; '.join(changed[:5])}): choose "
        "another folder",
    )
    return AutoencoderKL.from_pretrained(out / "vae")
