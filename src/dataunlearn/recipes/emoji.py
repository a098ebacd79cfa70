"""A small stand-in for the paper's faces: emoji of 32 pixels, twelve of them planted often."""

from __future__ import annotations

from dataunlearn.config import BaseModel, Ema, Training

NUM_IMAGES = 1240  # 1,000 pictures, twelve of which are there 20 times more


def emoji32() -> BaseModel:
    """An unconditional model of 1,000 emoji for two CPU cores: 1.5 M parameters, 310 epochs.

    It reads ``data/emoji32.npz`` of the repository; see ``data/README.md``.
    """
    return BaseModel(
        unet={
            "sample_size": 32,
            "in_channels": 3,
            "out_channels": 3,
            "layers_per_block": 1,
            "block_out_channels": (24, 48, 96),
            "norm_num_groups": 8,
            "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        },
        training=Training(
            steps=6000,
            batch_pairs=64,
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=200,
            micro_batch_rows=64,
            checkpoint_every_steps=100,
            ema=Ema(max_decay=0.999, inv_gamma=1.0, power=0.75),
        ),
        images="data/emoji32.npz:train",
        planted="data/emoji32.npz:planted",
        planted_copies=20,
        sample_every_steps=500,
    )
