"""When a run on prompts stops forgetting: no prompt gives a memorised sample any more."""

from __future__ import annotations

from collections.abc import Sequence

from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.labels import LikeLabelled
from dataunlearn.prompts.samples import LabelledPrompt
from dataunlearn.runtime.seeding import mix_seed
from dataunlearn.training.trainer import Callback, Trainer
from dataunlearn.unlearning.method import StopRule
from dataunlearn.unlearning.stopping import look_callback

LOOK_STEPS = 20


def prompt_stop_callback(
    prompts: Sequence[LabelledPrompt], config: PromptUnlearning, rule: StopRule, seed: int
) -> Callback:
    """A callback that looks at a few samples of each prompt.

    What follows from a look is up to :func:`dataunlearn.unlearning.stopping.look_callback`.

    A look ends at the first prompt that still gives a memorised sample, and begins with the one
    that did so last, so that looks are cheap until the end.

    Args:
        prompts: The prompts, whose labels judge the samples.
        config: How samples are drawn.
        rule: How often to look, and at how many samples of each prompt.
        seed: Names the noise, together with the step.
    """
    order = list(prompts)

    def forgotten(trainer: Trainer, steps_done: int) -> bool:
        trainer.record["memorised"] = 0.0
        for prompt in order:
            samples = generate(
                trainer.model,
                rule.copies,
                Drawing(
                    seed=mix_seed(seed, steps_done),
                    num_steps=min(LOOK_STEPS, config.sampling_steps),
                    batch_size=config.batch_size,
                    prompts=[prompt.data.prompt],
                ),
            )
            share = float(LikeLabelled(prompt.labelling)(samples).float().mean())
            trainer.record["memorised"] = max(trainer.record["memorised"], share)
            if share > (rule.regeneration_below or 0.0):
                order.remove(prompt)
                order.insert(0, prompt)
                return False
        return True

    return look_callback(rule, forgotten)
