"""The paper's first experiment: MNIST with 606 copies of one T-shirt planted in it."""

from __future__ import annotations

from pathlib import Path

from dataunlearn.base_models.config import BaseModel
from dataunlearn.combine import NormFix
from dataunlearn.objectives import SISS
from dataunlearn.recipes._small import small_base_model
from dataunlearn.timesteps import Uniform
from dataunlearn.training.config import Ema, Training
from dataunlearn.unlearning.config import Evaluation, Unlearning
from dataunlearn.unlearning.method import StopRule

NUM_IMAGES = 60_606  # 60,000 digits and 606 copies of Fashion-MNIST training image 1


def mnist_tshirt() -> BaseModel:
    """The published base model: 14.7 M parameters, 250 epochs (Alberti et al. 2025, appendix)."""
    batch = 128
    return BaseModel(
        unet={
            "sample_size": 28,
            "in_channels": 1,
            "out_channels": 1,
            "layers_per_block": 2,
            "block_out_channels": (64, 128, 256),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        },
        training=Training(
            steps=250 * NUM_IMAGES // batch,
            batch_pairs=batch,
            learning_rate=1e-4,
            schedule="cosine",
            warmup_steps=500,
            micro_batch_rows=batch,
            checkpoint_every_steps=1000,
            ema=Ema(max_decay=0.9999, inv_gamma=1.0, power=0.75),
        ),
        images="mnist_tshirt.npz:x",
        planted="mnist_tshirt.npz:t",
        planted_copies=606,
        sample_every_steps=5000,
    )


def mnist_tshirt_small() -> BaseModel:
    """The same data for a model that trains on two CPU cores: 1.5 M parameters, 5,000 steps."""
    return small_base_model(
        28,
        1,
        5000,
        images="mnist_tshirt.npz:x",
        planted="mnist_tshirt.npz:t",
        planted_copies=606,
    )


def mnist_tshirt_unlearning(
    forget: str = "mnist_tshirt.npz:t", keep: str = "mnist_tshirt.npz:x", out: Path = Path("run")
) -> Unlearning:
    """The published settings for that model: 300 steps, the forget gradient's norm fixed at 5.

    Args:
        forget: The T-shirt.
        keep: The digits.
        out: Run folder.
    """
    return Unlearning(
        model="unet_ema",
        forget=forget,
        keep=keep,
        out=out,
        objective=SISS(lam=0.5),
        combination=NormFix(norm=5),
        norms_every_steps=1,
        steps=300,
        learning_rate=5e-5,
        batch_pairs=64,
        timesteps=Uniform(),
        keep_towards="data",
        stop=StopRule(every_steps=0),
        betas=(0.95, 0.999),
        weight_decay=1e-6,
        schedule="constant",
        warmup_steps=0,
        evaluation=Evaluation(
            num_samples=1000,
            sampling_steps=50,
            threshold=10.0,
            digits=True,
            frequency_name="tshirt_frequency",
        ),
    )
