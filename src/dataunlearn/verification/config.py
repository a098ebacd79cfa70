"""The settings of ``dataunlearn verify``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from dataunlearn.attacks.config import On
from dataunlearn.metrics.membership_names import Attack
from dataunlearn.runtime.checks import require
from dataunlearn.runtime.streams import EVALUATION_SEED

Effort = Literal["quick", "standard", "thorough"]


@dataclass(frozen=True)
class Extent:
    """What an effort comes to.

    Attributes:
        tries: Tries to restore the images from each noise level.
        samples: Samples that are searched for copies.
        membership: Membership scores that are compared with those of unseen pictures.
        relearned: What copies of the model are trained on, and with how many seeds.
        prompts: Whether a text-to-image model is tried with prompts like the images' own, and
            with embeddings that are sought to call them up.
        noises: Whether noises are sought that they are drawn from.
    """

    tries: int
    samples: int = 0
    membership: tuple[Attack, ...] = ()
    relearned: Mapping[On, int] = field(default_factory=dict)
    prompts: bool = False
    noises: bool = False


EXTENTS: Mapping[Effort, Extent] = {
    "quick": Extent(tries=32),
    "standard": Extent(96, 512, ("loss", "sima", "pia", "secmi"), {"keep": 1}),
    # In five pairs of trainings the model is sooner in all with a chance of 3 % if it is no sooner.
    "thorough": Extent(
        256,
        2048,
        ("loss", "sima", "pia", "secmi", "inversion"),
        {"keep": 3, "view": 3, "image": 5},
        prompts=True,
        noises=True,
    ),
}


@dataclass(frozen=True)
class Verifying:
    """How hard a model is tried.

    Args:
        effort: "quick" restores the images from noise and compares losses; "standard" also draws
            samples, compares membership scores, and trains a copy on the keep images to see whether
            the images come back; "thorough" does all of it more often, and trains on the images and
            on a view of them, seeks noise that the model draws them from, and tries a text-to-image
            model with prompts like their own and with embeddings that are sought to call them up.
        threshold: Pixel distance (pixels in [0, 1]) under which a picture counts as a copy; None
            takes 7/8 of the distance from a forget image to the nearest keep image.
        sampling_steps: Denoiser calls per sample.
        regeneration_steps: Most denoiser calls per try.
        relearning_steps: Optimizer steps of trainings on keep images.
        batch_size: Images per denoiser call.
        guidance: Scale of classifier-free guidance; None takes the family's usual.
        drop_overlap: Remove forget images found in keep instead of stopping.
        seed: Names every random draw.
    """

    effort: Effort = "standard"
    threshold: float | None = None
    sampling_steps: int = 25
    regeneration_steps: int = 20
    relearning_steps: int = 60
    batch_size: int = 64
    guidance: float | None = None
    drop_overlap: bool = False
    seed: int = EVALUATION_SEED

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.effort in EXTENTS, f"effort must be one of {', '.join(EXTENTS)}")
        for name in ("sampling_steps", "regeneration_steps", "relearning_steps", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        require(
            self.threshold is None or self.threshold > 0,
            f"threshold must be above 0, not {self.threshold}",
        )
        require(self.seed >= 0, f"seed must be at least 0, not {self.seed}")

    def require_used(self) -> None:
        """Refuse numbers that another effort alone has a use for.

        Raises:
            ValueError: Naming the first one.
        """
        extent, usual = self.extent, Verifying(self.effort)
        for name, use, is_used in (
            ("sampling_steps", "draws no samples", extent.samples > 0),
            ("relearning_steps", "trains nothing on keep images", "keep" in extent.relearned),
        ):
            require(
                is_used or getattr(self, name) == getattr(usual, name),
                f"effort {self.effort} {use}: leave {name} out",
            )

    @property
    def extent(self) -> Extent:
        """What the effort comes to."""
        return EXTENTS[self.effort]
