"""Small inputs of the cases, written into the work folder from the files of the repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

EMOJI_SD, EMOJI32 = "models/emoji_sd", "models/emoji32"
EMOJI64_FILE = Path("data/emoji64.npz")
NUM_DIGITS = 64
TRAINING: dict[str, Any] = {
    "steps": 4,
    "batch_pairs": 4,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup_steps": 1,
    "checkpoint_every_steps": 2,
    "micro_batch_rows": 3,
    "ema": {"max_decay": 0.9},
}
BASE_TRAINING: dict[str, Any] = {
    "unet": {
        "sample_size": 28,
        "in_channels": 1,
        "out_channels": 1,
        "layers_per_block": 1,
        "block_out_channels": [8, 16],
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    },
    "training": TRAINING,
    "planted_copies": 6,
    "sample_every_steps": 4,
}
TINY_UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": 4,
    "cross_attention_dim": 16,
}
TINY_TEXT_ENCODER: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "projection_dim": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TINY_VAE: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [8, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "norm_num_groups": 4,
    "layers_per_block": 1,
}


def asset(name: str) -> Path:
    """A shipped file or folder, relative to the root, wherever in the package it lies.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = sorted(Path("src/dataunlearn").rglob(name))
    if not found:
        raise FileNotFoundError(f"no {name} under src/dataunlearn: run this from the root")
    return found[0]


def mnist(out: Path, *more: str) -> list[str]:
    """``unlearn`` on the small MNIST model; a later option replaces an earlier one."""
    return [
        *("unlearn", "--model", str(asset("mnist_tshirt_small"))),
        *("--forget", str(asset("tshirt.png")), "--keep", str(asset("digits.npz"))),
        *("--out", str(out), "--device", "cpu", "--force", "--steps", "6", "--batch-pairs", "8"),
        *("--stop.every-steps", "2", "--stop.copies", "4", "--checkpoint-every-steps", "2"),
        *("--evaluation.num-samples", "16", "--evaluation.sampling-steps", "5"),
        *("--evaluation.regeneration-copies", "4", "--evaluation.regeneration-steps", "5"),
        *("--evaluation.threshold", "10", *more),
    ]


def write_json(file: Path, content: Any) -> Path:
    """Write JSON, which is YAML too."""
    file.write_text(json.dumps(content, indent=1))
    return file


def few_digits(work: Path) -> Path:
    """The first shipped digits."""
    file = work / "few_digits.npz"
    with np.load(asset("digits.npz")) as digits:
        np.savez(file, x=digits["x"][:NUM_DIGITS], y=digits["y"][:NUM_DIGITS])
    return file


def samples_of_reference(work: Path) -> Path:
    """Shipped digits as the samples of an evaluation: float32 ``(N, 1, 28, 28)`` in [-1, 1]."""
    with np.load(asset("digits.npz")) as digits:
        pixels = digits["x"][100:130, None].astype(np.float32) / 127.5 - 1
    about = {"dtype": "F32", "shape": list(pixels.shape), "data_offsets": [0, pixels.nbytes]}
    header = json.dumps({"samples": about}).encode()
    header += b" " * (-len(header) % 8)
    file = work / "reference_samples.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + pixels.tobytes())
    return file


def captioned(work: Path) -> tuple[Path, Path]:
    """Emoji with captions: two to forget, and to keep their twins and four others."""
    files = work / "captioned_forget.npz", work / "captioned_keep.npz"
    with np.load(EMOJI64_FILE) as emoji:
        names, google, twitter = emoji["names"], emoji["google"], emoji["twitter"]
        chosen = [np.flatnonzero(names == name)[0] for name in emoji["planted_tuning_names"][:2]]
    others = [10, 200, 700, 1500]
    np.savez(files[0], x=google[chosen], captions=names[chosen])
    kept = np.concatenate([twitter[chosen], twitter[others]])
    np.savez(files[1], x=kept, captions=names[chosen + others])
    return files


def prompts(work: Path) -> tuple[Path, Path, Path]:
    """Two memorised prompts, some that are to stay, and some whose drift is measured."""
    files = work / "prompts.yaml", work / "prior.txt", work / "unnamed.txt"
    images = EMOJI64_FILE.resolve()
    first = {"prompt": "ballet shoes", "image": f"{images}:google[73]"}
    second = {"prompt": "metro", "image": f"{images}:google[1060]", "modified": "tram car"}
    write_json(files[0], [first, second])
    files[1].write_text("lime\ntiger\n")
    files[2].write_text("shrimp\nspeaker\n")
    return files


def text_to_image_training(work: Path) -> dict[str, Any]:
    """Settings of a tiny text-to-image model, on emoji of 16 pixels."""
    file = work / "emoji16.npz"
    with np.load(EMOJI64_FILE) as emoji:
        styles = {style: emoji[style][:24, ::4, ::4] for style in ("google", "twitter")}
        names = emoji["names"][:24]
    np.savez(file, **styles, names=names, planted=names[3:5])
    return {
        "autoencoder": {
            "vae": TINY_VAE,
            "steps": 4,
            "batch_images": 4,
            "learning_rate": 1e-3,
            "kl_weight": 1e-3,
            "warmup_steps": 1,
            "checkpoint_every_steps": 2,
        },
        "unet": TINY_UNET,
        "text_encoder": TINY_TEXT_ENCODER,
        "images": f"{file}:google",
        "twins": f"{file}:twitter",
        "captions": f"{file}:names",
        "planted": f"{file}:planted",
        "planted_copies": 5,
        "planted_twin_copies": 2,
        "training": TRAINING,
        "vocab_size": 600,
        "max_length": 8,
        "sample_every_steps": 2,
        "memory": {"samples_per_prompt": 2, "num_steps": 2, "num_others": 3},
    }
