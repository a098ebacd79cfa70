"""Tiny models and pictures that are in order, from which every input is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel

from dataunlearn.base_models.tokenizer import train_tokenizer
from dataunlearn.cli import main as cli
from dataunlearn.requests.verifying import Verifier
from dataunlearn.runtime.exit_codes import INTERRUPTED, UNLEARNED
from dataunlearn.training.checkpoint import Checkpoint, CheckpointStore

CAPTIONS = ("a red square", "a blue square", "a green circle", "a white circle")
PIXEL_SIDE, PICTURE_SIDE = 8, 16
WIDTH = 16
FEW = {
    "steps": 3,
    "batch_pairs": 2,
    "evaluation": {
        "num_samples": 4,
        "sampling_steps": 2,
        "regeneration_copies": 2,
        "regeneration_steps": 2,
    },
}
NO_MEASURING = (
    *("--evaluation.num_samples", "0", "--evaluation.regeneration_copies", "1"),
    *("--evaluation.regeneration_steps", "2", "--evaluation.threshold", "9"),
    *("--stop.every_steps", "0", "--device", "cpu", "--force"),
)


class Sandbox:
    """Where things that are in order lie.

    Args:
        root: The folder of all of them.

    Attributes:
        pixel_model: A model of grey pictures, with what it is to forget and to keep beside it.
        text_model: A text-to-image model, likewise with captioned pictures.
        run: A finished run.
        begun: A run that was interrupted after its second checkpoint.
        project: A ledger with one request that was answered, and one that waits.
        difference: What that request's version changed, on its own.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pixel_model, self.text_model = root / "pixel_model", root / "text_model"
        self.forget, self.keep = root / "forget", root / "keep"
        self.captioned, self.captioned_keep = root / "captioned", root / "captioned_keep"
        self.run, self.begun = root / "run", root / "begun"
        self.project, self.difference = root / "project", root / "difference.safetensors"

    def unlearn(self, out: Path, *more: str, model: Path | None = None) -> list[str]:
        """``unlearn`` of two steps on the pixel model."""
        return [
            *("unlearn", "--model", str(model or self.pixel_model), "--forget", str(self.forget)),
            *("--keep", str(self.keep), "--out", str(out), "--objective", "NaiveDeletion"),
            *("--steps", "3", "--batch_pairs", "2", "--checkpoint_every_steps", "1", *NO_MEASURING),
            *more,
        ]

    def train(self, out: Path, *more: str) -> list[str]:
        """``train`` of the pixel model's network on its pictures."""
        unet = json.loads((self.pixel_model / "unet" / "config.json").read_text())
        unet = {name: value for name, value in unet.items() if not name.startswith("_")}
        return [
            *("train", "--recipe", "mnist_tshirt_small", "--unet", json.dumps(unet)),
            *("--images", str(self.keep), "--planted", str(self.forget), "--out", str(out)),
            *("--device", "cpu", *more),
        ]

    @property
    def inputs(self) -> dict[str, str]:
        """The pixel model and its pictures, as settings of ``unlearn``."""
        named = {"model": self.pixel_model, "forget": self.forget, "keep": self.keep}
        return {name: str(place) for name, place in named.items()}


def build(root: Path) -> Sandbox:
    """Write models, pictures and runs, unless they are there."""
    found = Sandbox(root)
    if (root / "complete").is_file():
        return found
    root.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    _pixel_pipeline().save_pretrained(found.pixel_model)
    _text_pipeline().save_pretrained(found.text_model)
    draw = np.random.default_rng(0)
    _pictures(found.forget, draw, 2, PIXEL_SIDE, "L")
    _pictures(found.keep, draw, 6, PIXEL_SIDE, "L")
    rows = [
        {"file_name": f"{number}.png", "text": caption} for number, caption in enumerate(CAPTIONS)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for folder in (found.captioned, found.captioned_keep):
        _pictures(folder, draw, len(CAPTIONS), PICTURE_SIDE, "RGB")
        (folder / "metadata.jsonl").write_text(lines)
    _runs(found)
    _project(found)
    (root / "complete").touch()
    return found


def _runs(sandbox: Sandbox) -> None:
    assert cli.run(sandbox.unlearn(sandbox.run)) in UNLEARNED
    plainly, saved = CheckpointStore.save, []

    def save_twice(store: CheckpointStore, checkpoint: Checkpoint) -> Path:
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(plainly(store, checkpoint))
        return saved[-1]

    CheckpointStore.save = save_twice  # type: ignore[method-assign]
    try:
        assert cli.run(sandbox.unlearn(sandbox.begun)) == INTERRUPTED
    finally:
        CheckpointStore.save = plainly  # type: ignore[method-assign]


def _project(sandbox: Sandbox) -> None:
    """One request that was answered, by a version that is signed, and one that waits."""
    plainly = Verifier.known_by
    Verifier.known_by = lambda *_, **__: "so"  # type: ignore[method-assign]
    where = ["--project", str(sandbox.project), "--device", "cpu"]
    try:
        for name in ("0.png", "1.png"):
            given = ["--images", str(sandbox.forget / name), "--reference", f"about {name}"]
            base = ["--model", str(sandbox.pixel_model), "--keep", str(sandbox.keep)]
            assert cli.run(["request", "add", *where, *given, *base]) == 0
            if name == "0.png":
                how = ["--unlearning", json.dumps(FEW), "--accept", "--duplicates", "take"]
                assert cli.run(["request", "apply", *where, *how]) in UNLEARNED
    finally:
        Verifier.known_by = plainly  # type: ignore[method-assign]
    model = sandbox.project / "versions" / "0001" / "model"
    versions = ["--before", str(sandbox.pixel_model), "--after", str(model)]
    assert cli.run(["difference", "save", *versions, "--out", str(sandbox.difference)]) == 0


def _pictures(folder: Path, draw: Any, count: int, side: int, mode: str) -> None:
    folder.mkdir(parents=True)
    shape = (side, side) if mode == "L" else (side, side, 3)
    for number in range(count):
        pixels = draw.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels, mode).save(folder / f"{number}.png")


def _pixel_pipeline() -> DDPMPipeline:
    unet = UNet2DModel(
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=4,
        sample_size=PIXEL_SIDE,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    return DDPMPipeline(unet, DDPMScheduler())


def _text_pipeline() -> StableDiffusionPipeline:
    tokenizer = train_tokenizer(list(CAPTIONS), vocab_size=600, model_max_length=8)
    blocks: dict[str, Any] = {"block_out_channels": (8, 16), "norm_num_groups": 4}
    encoder = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return StableDiffusionPipeline(
        vae=AutoencoderKL(
            **blocks,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        text_encoder=CLIPTextModel(encoder),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(
            **blocks,
            layers_per_block=1,
            sample_size=PIXEL_SIDE,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
            cross_attention_dim=WIDTH,
        ),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
