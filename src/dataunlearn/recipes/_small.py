"""What the base models that train on two CPU cores have in common."""

from __future__ import annotations

from typing import Any

from dataunlearn.base_models.config import BaseModel
from dataunlearn.training.config import Ema, Training


def small_base_model(size: int, channels: int, steps: int, **data: Any) -> BaseModel:
    """A model of 1.5 M parameters on pictures of ``size`` pixels, and how it is trained.

    Args:
        size: Pixels of a side.
        channels: 1 for grey, 3 for colour.
        steps: Training steps of 64 images.
        **data: Where images come from: the other fields of :class:`BaseModel`.
    """
    return BaseModel(
        unet={
            "sample_size": size,
            "in_channels": channels,
            "out_channels": channels,
            "layers_per_block": 1,
            "block_out_channels": (24, 48, 96),
            "norm_num_groups": 8,
            "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        },
        training=Training(
            steps=steps,
            batch_pairs=64,
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=200,
            micro_batch_rows=64,
            checkpoint_every_steps=100,
            ema=Ema(max_decay=0.999, inv_gamma=1.0, power=0.75),
        ),
        sample_every_steps=500,
        **data,
    )
