"""Membership: does the model treat an image otherwise than images that it never saw?

Scores of an image (:mod:`dataunlearn.metrics.membership_scores`) are compared with the scores of
images that were held out. A lower score speaks for membership. After unlearning a score above
everybody else's gives an image away as well: somebody has been at work there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from dataunlearn.metrics.enough import enough_scores
from dataunlearn.metrics.inputs import Inputs, Side
from dataunlearn.metrics.intervals import mean_interval
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.membership_names import Attack
from dataunlearn.metrics.membership_scores import denoising_losses, pia_scores, sima_scores
from dataunlearn.metrics.membership_statistics import (
    membership_auc,
    membership_outside,
    membership_tpr,
)
from dataunlearn.metrics.pace import Cost
from dataunlearn.metrics.path_scores import (
    inversion_passes,
    inversion_scores,
    secmi_passes,
    secmi_scores,
)
from dataunlearn.metrics.result import Result
from dataunlearn.models import DiffusionModel
from dataunlearn.runtime.progress import progress_at_most

SCORES: Mapping[Attack, Callable[..., Tensor]] = {
    "loss": denoising_losses,
    "sima": sima_scores,
    "pia": pia_scores,
    "secmi": secmi_scores,
    "inversion": inversion_scores,
}
# Of the noise levels. The program of SimA's paper reports the level that did best on the images in
# question, which flatters the attack; here scores are averaged over fixed levels, chosen near
# those that the papers' programs look at.
SHARES: Mapping[Attack, tuple[float, ...]] = {
    "loss": tuple(tenths / 10 for tenths in range(2, 10)),
    "sima": (0.02, 0.04, 0.06, 0.08, 0.1),
    "pia": (0.04, 0.08, 0.12, 0.16, 0.2),
    "secmi": (0.06, 0.08, 0.1, 0.12, 0.14),
    "inversion": (1.0,),
}


@dataclass(frozen=True)
class Membership(Measure):
    """How well forget images can be told from held-out ones, and from keep images.

    Args:
        timesteps: Noise levels of the loss, which is averaged over them. Empty for 0.2, 0.3, ...
            0.9 of the model's.
        num_draws: Most draws of noise at each, for the loss; fewer where they blur nothing.
        num_images: Most held-out or keep images; fewer where the rest would narrow no interval.
        each_timestep: Give every side's mean score, and the AUC, at each noise level as well.
        attacks: Which scores: "loss", the denoising loss; "sima", the noise that the model sees in
            a picture without any; "pia", whether it finds that noise again; "secmi", whether it
            finds its way back along the path to noise; "inversion", how likely the noise is that it
            draws the picture from.
        sima_timesteps: Noise levels of SimA, likewise averaged over. Empty for 0.02, 0.04, ... 0.1.
        pia_timesteps: Noise levels of PIA. Empty for 0.04, 0.08, ... 0.2.
        secmi_timesteps: Noise levels of SecMI. Empty for 0.06, 0.08, ... 0.14.
    """

    timesteps: tuple[int, ...] = ()
    num_draws: int = 4
    num_images: int = 500
    each_timestep: bool = False
    attacks: tuple[Attack, ...] = ("loss", "sima", "pia")
    sima_timesteps: tuple[int, ...] = ()
    pia_timesteps: tuple[int, ...] = ()
    secmi_timesteps: tuple[int, ...] = ()
    needs: ClassVar[tuple[str, ...]] = ("forget",)

    def check(self, inputs: Inputs) -> None:
        """There must be something to compare with."""
        super().check(inputs)
        if inputs.keep is None and inputs.held_out is None:
            raise ValueError("Membership needs --held-out or --keep to compare with")
        unknown = [name for name in self.attacks if name not in SHARES]
        if unknown or not self.attacks:
            raise ValueError(
                f"no attack {', '.join(unknown) or 'named'}; attacks takes {', '.join(SHARES)}"
            )
        for name in ("timesteps", *(f"{each}_timesteps" for each in ("sima", "pia", "secmi"))):
            inputs.model.process.check_timesteps(getattr(self, name), name)

    def __call__(self, inputs: Inputs) -> list[Result]:
        """For each attack and each kind of other images: AUC, TPR at 1 % FPR, and both tails."""
        kinds: tuple[Side, ...] = ("held_out", "keep")
        sides: dict[Side, Tensor] = {"forget": inputs.originals}
        for side in kinds:
            if getattr(inputs, side) is not None:
                sides[side] = inputs.batch(side)[: self.num_images]
        results = []
        for attack in self.attacks:
            scores, draws = self._scores(attack, inputs, sides)
            mean = {side: found.mean(1) for side, found in scores.items()}
            results += [with_draws(each, draws) for each in compared(mean, attack)]
            if self.each_timestep:
                results += by_timestep(scores, self._timesteps(attack, inputs.model), attack)
        return results

    def _timesteps(self, attack: Attack, model: DiffusionModel) -> tuple[int, ...]:
        given = {
            "loss": self.timesteps,
            "sima": self.sima_timesteps,
            "pia": self.pia_timesteps,
            "secmi": self.secmi_timesteps,
        }
        return given.get(attack) or model.process.timesteps_at(SHARES[attack])

    def cost(self, inputs: Inputs) -> Cost:
        """At most: as many other images and draws as the intervals need."""
        others = [inputs.keep, inputs.held_out]
        images = len(inputs.originals)
        images += sum(min(self.num_images, len(each)) for each in others if each is not None)
        passes = (
            self.passes(attack, inputs.model) * (self.num_draws if attack == "loss" else 1)
            for attack in self.attacks
        )
        return Cost(images * sum(passes))

    def passes(self, attack: Attack, model: DiffusionModel) -> int:
        """Passes of the model for each image, in each draw of noise."""
        timesteps, process = self._timesteps(attack, model), model.process
        if attack == "secmi":
            return secmi_passes(process, timesteps)
        if attack == "inversion":
            return inversion_passes(process, timesteps)
        return len(timesteps) + (attack == "pia")

    def _scores(
        self, attack: Attack, inputs: Inputs, sides: Mapping[Side, Tensor]
    ) -> tuple[dict[Side, Tensor], int]:
        """Scores ``(N, T)`` by side, of as many others and draws as are needed, and the draws."""
        timesteps, has_draws = self._timesteps(attack, inputs.model), attack == "loss"
        most = {side: len(images) for side, images in sides.items()}
        most_draws = self.num_draws if has_draws else 1
        conds = {side: inputs.conditions(side, count) for side, count in most.items()}

        def score(side: Side, rows: range, draws: range) -> Tensor:
            cond, part = conds[side], slice(rows.start, rows.stop)
            own: dict[str, Any] = {
                "batch_size": inputs.batch_size,
                "cond": None if cond is None else cond[part],
                "progress": advance,
            }
            if has_draws:
                own |= {"draws": draws, "seed": inputs.seed}
            return SCORES[attack](inputs.model, sides[side][part], timesteps, **own)

        total = self.passes(attack, inputs.model) * most_draws * sum(most.values())
        with progress_at_most(f"membership, {attack}", total, shown=inputs.shown) as advance:
            return enough_scores(score, most, most_draws)


def result_prefix(attack: Attack) -> str:
    """How the names of an attack's results begin; the loss came first and has none of its own."""
    return "membership" if attack == "loss" else f"membership_{attack}"


def compared(scores: Mapping[Side, Tensor], attack: Attack = "loss") -> list[Result]:
    """The forget images' scores against those of each other side: AUC, TPR and both tails.

    Args:
        scores: Scores ``(N,)`` by side, the forget images' among them.
        attack: Whose scores they are.

    Returns:
        ``membership_auc_SIDE``, ``_tpr_``, ``_below_`` and ``_above_``; of SimA and PIA
        ``membership_sima_auc_SIDE`` and so on.
    """
    results = []
    for side in [side for side in scores if side != "forget"]:
        pair, prefix = (scores["forget"], scores[side]), result_prefix(attack)
        results.append(membership_auc(*pair, name=f"{prefix}_auc_{side}"))
        results.append(membership_tpr(*pair, name=f"{prefix}_tpr_{side}"))
        results.append(membership_outside(*pair, "below", name=f"{prefix}_below_{side}"))
        results.append(membership_outside(*pair, "above", name=f"{prefix}_above_{side}"))
    return results


def with_draws(result: Result, draws: int) -> Result:
    """A result that says over how many draws of noise its scores are means."""
    return replace(result, settings={**result.settings, "num_draws": draws})


def by_timestep(
    scores: Mapping[Side, Tensor], timesteps: Sequence[int], attack: Attack = "loss"
) -> list[Result]:
    """At each noise level every side's mean score, and the AUC of forget images against others.

    Args:
        scores: Scores ``(N, T)`` by side, the forget images' among them.
        timesteps: The T noise levels.
        attack: Whose scores they are.

    Returns:
        ``membership_loss_SIDE_T`` (of SimA ``membership_sima_SIDE_T``) and
        ``membership_auc_SIDE_T`` (``membership_sima_auc_SIDE_T``), each with its bootstrap
        interval.
    """
    results = []
    for column, timestep in enumerate(timesteps):
        for side, values in scores.items():
            own = values[:, column]
            name, interval = f"membership_{attack}_{side}_{timestep}", mean_interval(own.numpy())
            settings = {"num_images": len(own), "timestep": timestep}
            results.append(Result(name, float(own.mean()), interval, None, settings, own))
            if side != "forget":
                forget = scores["forget"][:, column]
                name = f"{result_prefix(attack)}_auc_{side}_{timestep}"
                results.append(membership_auc(forget, own, name=name))
    return results
