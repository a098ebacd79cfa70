"""The settings of an audit."""

from __future__ import annotations

from dataclasses import dataclass

from dataunlearn.runtime.checks import require
from dataunlearn.runtime.streams import EVALUATION_SEED


@dataclass(frozen=True)
class AuditSettings:
    """How hard an audit looks.

    Args:
        tries: Tries per image and noise level.
        timesteps: Noise levels that images are restored from; empty for a half and three quarters
            of the noise. Lower ones leave so much of an image that any good model restores it.
        num_steps: Most denoiser calls per try.
        num_samples: Samples drawn and searched for copies; 0 for none.
        sampling_steps: Denoiser calls per sample.
        threshold: Pixel distance (pixels in [0, 1]) under which a picture is a copy; None takes a
            fifth of each image's median distance to the keep images, or, without keep images, to
            the model's samples (of a text-to-image model: for prompts that no image has).
        loss_timesteps: Noise levels of the membership loss; empty for 0.2, 0.4, 0.6 and 0.8 of the
            model's.
        loss_draws: Draws of noise at each.
        loss_images: Most images that losses are compared with.
        embedder: Finds near-duplicates; as for ``dataunlearn evaluate``.
        num_neighbours: Nearest training images shown for each image.
        batch_size: Images per denoiser call.
        seed: Names every random draw.
    """

    tries: int = 16
    timesteps: tuple[int, ...] = ()
    num_steps: int = 20
    num_samples: int = 512
    sampling_steps: int = 25
    threshold: float | None = None
    loss_timesteps: tuple[int, ...] = ()
    loss_draws: int = 2
    loss_images: int = 500
    embedder: str = "auto"
    num_neighbours: int = 8
    batch_size: int = 64
    seed: int = EVALUATION_SEED

    def __post_init__(self) -> None:
        """Check ranges."""
        positive = ("tries", "num_steps", "sampling_steps", "loss_draws", "loss_images")
        for name in (*positive, "batch_size"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("num_samples", "num_neighbours", "seed"):
            require(getattr(self, name) >= 0, f"{name} must be at least 0")
        require(
            self.threshold is None or self.threshold > 0,
            f"threshold must be above 0, not {self.threshold}",
        )
