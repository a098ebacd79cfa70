"""Images that have arrived count less, in the forgetting phase, and across a resume."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dataunlearn.objectives import SISS, Counterfactual, NaiveDeletion
from dataunlearn.training.config import Training
from dataunlearn.training.pairs import PairSampler
from dataunlearn.training.phase import Phase, StepPart
from dataunlearn.training.trainer import Trainer
from toy_levels import prepared

WEIGHT = 0.25


def make_trainer(make_model, make_images, run_dir=None, callbacks=(), steps=6, settles=False):
    model, forget = make_model(), make_images(3, 1)
    sampler = PairSampler(make_images(12), forget, model.process, batch_pairs=6)
    objective = prepared(
        Counterfactual(forget_share=1.0, arrived_weight=WEIGHT),
        model.process,
        forget.batch(torch.arange(3)),
    )
    phases = [Phase([StepPart(sampler, objective)], objective.default_combination)]
    if settles:
        naive = NaiveDeletion()
        phases.append(Phase([StepPart(sampler, naive)], naive.default_combination))
    config = Training(steps=steps, batch_pairs=6, learning_rate=1e-2, checkpoint_every_steps=3)
    return Trainer(model, phases, config, run_dir=run_dir, callbacks=list(callbacks), shown=False)


def arrive_at_two(trainer, steps_done):
    """Looks once: the second image has arrived."""
    if steps_done == 2:
        trainer.arrived = [False, True, False]
    return False


def break_at_four(trainer, steps_done):
    if steps_done == 4:
        raise KeyboardInterrupt("broken off on purpose")
    return False


def weights(trainer):
    return torch.cat([param.detach().flatten() for param in trainer.params])


def test_rows_of_arrived_images_count_less(make_model, make_images):
    trainer = make_trainer(make_model, make_images)
    before = trainer.rows(0)
    trainer.arrived = [True, False, True]
    after = trainer.rows(0)
    image = trainer.forgetting.parts[0].sampler(0).forget_index
    factor = torch.where(image == 1, 1.0, WEIGHT)
    torch.testing.assert_close(after.forget.weight[6:], before.forget.weight[6:] * factor)
    assert torch.equal(after.keep.weight, before.keep.weight)
    assert torch.equal(after.inputs, before.inputs)


@pytest.mark.parametrize("arrived", [[], [False] * 3])
def test_where_none_has_arrived_the_phase_is_as_it_was(arrived, make_model, make_images):
    trainer = make_trainer(make_model, make_images)
    trainer.arrived = arrived
    assert trainer.phase is trainer.forgetting


def test_objectives_without_an_aim_are_not_eased(make_model, make_images):
    model = make_model()
    sampler = PairSampler(make_images(4), make_images(2, 1), model.process, batch_pairs=4)
    part = StepPart(sampler, SISS())
    phase = Phase([part], SISS.default_combination).eased([True, True])
    assert phase.parts[0].objective == part.objective
    assert not SISS().arrives


def test_settling_on_keep_images_is_not_eased(make_model, make_images):
    trainer = make_trainer(make_model, make_images, settles=True)
    trainer.arrived = [True] * 3
    trainer.settle()
    pairs = zip(trainer.phase.parts, trainer.settling[0].parts, strict=True)
    assert all(now.objective is own.objective for now, own in pairs)


def test_who_has_arrived_survives_a_resume(make_model, make_images, tmp_path):
    """Bit for bit. The look is at step 2, the checkpoint at 3, the break at 4; the resumed run
    does not look again, so it knows from the checkpoint alone."""
    whole = make_trainer(make_model, make_images, callbacks=[arrive_at_two])
    whole.run()
    broken = make_trainer(
        make_model, make_images, tmp_path, callbacks=[arrive_at_two, break_at_four]
    )
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    resumed = make_trainer(make_model, make_images, tmp_path, callbacks=[arrive_at_two])
    log = resumed.run()
    assert resumed.arrived == whole.arrived == [False, True, False]
    assert torch.equal(weights(resumed), weights(whole))
    for mine, other in zip(log, whole.log.records, strict=True):
        assert {**mine, "seconds": 0} == {**other, "seconds": 0}
    careless = make_trainer(make_model, make_images)
    careless.run()
    assert not torch.equal(weights(careless), weights(whole))


def test_a_checkpoint_without_it_is_read(make_model, make_images):
    """As runs begun before anyone looked at images one by one have them."""
    trainer = make_trainer(make_model, make_images)
    checkpoint = trainer.state()
    values = {name: value for name, value in checkpoint.values.items() if name != "arrived"}
    trainer.restore(replace(checkpoint, values=values))
    assert trainer.arrived == []
