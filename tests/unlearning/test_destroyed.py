"""A run that destroys its model ends with that verdict, and never with "forgotten" and code 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler

import dataunlearn
from dataunlearn.data.base import ImageSet
from dataunlearn.models import DiffusionModel
from dataunlearn.runtime.exit_codes import NOT_AS_IF_NEVER_SEEN
from dataunlearn.training.trainer import Trainer
from quick_run import QUICK

SMALL: dict[str, Any] = {
    **QUICK,
    "steps": 1,
    "evaluation": replace(QUICK["evaluation"], num_samples=3, threshold=0.5),
}


def spoil(unet: Any, value: float) -> None:
    with torch.no_grad():
        unet.conv_out.bias.fill_(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [(math.nan, "3 of the 3 samples are not finite"), (100.0, "the model draws nothing")],
)
def test_the_verdict_is_lost_quality(
    tmp_path: Path,
    make_unet: Callable[..., Any],
    make_images: Callable[..., ImageSet],
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    words: str,
) -> None:
    trained = Trainer.run

    def destroyed(self: Trainer) -> Any:
        log = trained(self)
        spoil(self.model.pipeline.unet, value)
        return log

    monkeypatch.setattr(Trainer, "run", destroyed)
    pipeline = DDPMPipeline(make_unet(), DDPMScheduler(prediction_type="sample"))
    result = dataunlearn.unlearn(
        pipeline, forget=make_images(1), keep=make_images(6, 1), out=tmp_path, **SMALL
    )
    verdict = result.facts["verdict"]
    assert result.exit_code == NOT_AS_IF_NEVER_SEEN
    assert not result.forgotten
    assert (verdict["memory"], verdict["quality"]) == ("cannot tell", "lost")
    assert words in verdict["text"]
    assert (tmp_path / "report.html").is_file()


def test_a_model_that_is_destroyed_already_is_refused(
    make_model: Callable[..., DiffusionModel], make_images: Callable[..., ImageSet]
) -> None:
    pipeline = make_model().pipeline
    spoil(pipeline.unet, math.nan)
    with pytest.raises(ValueError, match=r"tensor conv_out\.bias"):
        dataunlearn.unlearn(pipeline, forget=make_images(1), keep=make_images(6, 1), **SMALL)
