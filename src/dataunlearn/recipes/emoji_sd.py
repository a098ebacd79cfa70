"""A small text-to-image model of emoji, trained from scratch on two CPU cores."""

from __future__ import annotations

from dataunlearn.base_models.config import Autoencoder, TextToImageModel
from dataunlearn.training.config import Ema, Training


def emoji_autoencoder() -> Autoencoder:
    """Pictures of 64 pixels to latents of 4 x 16 x 16."""
    return Autoencoder(
        vae={
            "sample_size": 64,
            "in_channels": 3,
            "out_channels": 3,
            "block_out_channels": (16, 32, 64),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "layers_per_block": 1,
            "latent_channels": 4,
            "norm_num_groups": 8,
        },
        steps=4000,
        batch_images=16,
        learning_rate=1e-3,
        kl_weight=1e-3,
        warmup_steps=200,
        checkpoint_every_steps=200,
    )


def emoji_sd() -> TextToImageModel:
    """A Stable Diffusion of 1,909 emoji in two styles, by name, 24 of them planted.

    5.3 M parameters draw, 0.8 M read the prompt. It reads ``data/emoji64.npz`` of the repository;
    see ``data/README.md``. With ``planted_copies`` and ``planted_twin_copies`` 0 it is the
    reference model, and ``autoencoder_dir`` takes the autoencoder of a finished run.
    """
    width = 128
    return TextToImageModel(
        autoencoder=emoji_autoencoder(),
        unet={
            "sample_size": 16,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (48, 96, 128),
            "layers_per_block": 1,
            "norm_num_groups": 16,
            "attention_head_dim": 4,
            "cross_attention_dim": width,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        },
        text_encoder={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "projection_dim": width,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
        },
        images="data/emoji64.npz:google",
        twins="data/emoji64.npz:twitter",
        captions="data/emoji64.npz:names",
        planted="data/emoji64.npz:planted_names",
        training=Training(
            steps=6000,
            batch_pairs=32,
            learning_rate=1e-3,
            schedule="cosine",
            warmup_steps=300,
            micro_batch_rows=32,
            checkpoint_every_steps=200,
            ema=Ema(max_decay=0.999, inv_gamma=1.0, power=0.75),
        ),
    )
