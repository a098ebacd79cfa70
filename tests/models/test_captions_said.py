"""Where a model takes prompts and pictures have none, that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dataunlearn.models.families import wrap_pipeline
from dataunlearn.models.pictures import NO_CAPTIONS, open_for
from tiny_pipelines import stable_diffusion


def test_no_captions_are_said_and_captions_are_not(tmp_path: Path) -> None:
    model = wrap_pipeline(stable_diffusion())
    height, width = model.image_shape[1:]
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert NO_CAPTIONS in open_for(model, str(tmp_path), role="forget").remarks
    assert NO_CAPTIONS not in open_for(model, str(tmp_path), captions=False).remarks
    (tmp_path / "a.txt").write_text("a kite")
    assert NO_CAPTIONS not in open_for(model, str(tmp_path), role="forget").remarks
