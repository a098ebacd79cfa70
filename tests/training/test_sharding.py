"""A network in parts, two processes: the steps of one process that has the whole network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dataunlearn.base_models.config import BaseModel
from dataunlearn.models.lora import Lora
from dataunlearn.training.config import Ema
from dataunlearn.training.restraints import Anchor, SaliencyMask
from dataunlearn.unlearning.config import Settings
from sharded_steps import SHARDED, Looking
from toy_levels import UNPROMPTED
from two_process_runs import assert_close_to, assert_ends_as_alone, flat, launch
from two_process_steps import NUM_STEPS, make_trainer, result

SCRIPT = Path(__file__).parents[1] / "sharded_steps.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("sharded")
    done = launch(SCRIPT, str(folder))
    assert done.returncode == 0, done.stderr[-4000:]
    loaded: dict[str, Any] = torch.load(folder / "results.pt", weights_only=True)
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize("name", UNPROMPTED)
def test_parts_equal_the_whole(results: dict[str, Any], name: str) -> None:
    """The same steps and looks, and at the end a whole network in both processes."""
    looking = Looking()
    assert_ends_as_alone(name, results[name], callbacks=[looking])
    for here, there in zip(looking.answers, results[name]["looks"], strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_each_process_holds_half(results: dict[str, Any]) -> None:
    for name in UNPROMPTED:
        assert results[name]["held"] == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_lengths_are_estimated_alike(results: dict[str, Any]) -> None:
    alone = make_trainer(UNPROMPTED["SISS"](), every_steps=NUM_STEPS)
    alone.run()
    assert [record["norm"] is None for record in results["lagged"]["log"]] == [True, False, False]
    assert_close_to(result(alone), results["lagged"])


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(results: dict[str, Any]) -> None:
    whole, resumed = results["SISS"], results["resumed"]
    for name in ("weights", "gradients"):
        assert torch.equal(flat(whole[name]), flat(resumed[name]))


def test_base_training_refuses_it() -> None:
    with pytest.raises(ValueError, match="unlearning alone"):
        BaseModel({}, "pictures", SHARDED)


def test_one_process_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="torchrun"):
        make_trainer(UNPROMPTED["SISS"](), config=SHARDED)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ema": Ema()}, "ema"),
        ({"compile": True}, "compile"),
        ({"optimizer": "adamw8bit"}, "adamw8bit"),
        ({"saliency": SaliencyMask()}, "saliency"),
        ({"anchor": Anchor()}, "anchor"),
        ({"lora": Lora()}, "lora"),
    ],
)
def test_what_needs_a_whole_network_is_refused(change: dict[str, Any], named: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ValueError, match=named):
        Settings(shard=True, **change)
