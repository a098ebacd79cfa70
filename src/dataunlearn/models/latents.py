"""Latents: pictures through a variational autoencoder, encoded once each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dataunlearn.conditioning import TextCond
from dataunlearn.data.base import ImageSet
from dataunlearn.data.prompt import EmbeddedPrompt, Prompt
from dataunlearn.models.base import DiffusionModel
from dataunlearn.models.space import SampleSpace
from dataunlearn.runtime.checks import require

ENCODE_BATCH = 8


@dataclass(frozen=True, eq=False)
class LatentCoder:
    """A VAE with the model family's scaling: latent = (z - shift) * scale.

    Attributes:
        vae: diffusers' ``AutoencoderKL``, in eval mode and without gradients.
        scale: Factor, a number or ``(1, C, 1, 1)``.
        shift: Offset, likewise.
    """

    vae: Any
    scale: float | Tensor
    shift: float | Tensor

    @classmethod
    def of(cls, vae: Any) -> LatentCoder:
        """The coder that a VAE's own config describes.

        Raises:
            ValueError: If a number in it is none that latents can be scaled by.
        """
        config = vae.config
        scale, shift = config.scaling_factor, config.get("shift_factor") or 0.0
        require(
            _is_number(scale) and scale > 0,
            f"the vae's config has scaling_factor {scale}: it must be a number above 0",
        )
        require(
            _is_number(shift), f"the vae's config has shift_factor {shift}: it must be a number"
        )
        scale = float(scale)
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and std is not None:
            for name, given in (("latents_mean", mean), ("latents_std", std)):
                _require_numbers(name, given, config.latent_channels)
            scale = scale / torch.tensor(std).reshape(1, -1, 1, 1)
            shift = torch.tensor(mean).reshape(1, -1, 1, 1)
        return cls(vae.eval().requires_grad_(False), scale, shift)

    @property
    def downscale(self) -> int:
        """Pixels of a picture's side for one of the latent's."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @torch.no_grad()
    def posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents of ``pixels (B, C, H, W)``, on the CPU."""
        found = [self._posterior(part) for part in torch.split(pixels, ENCODE_BATCH)]
        mean, std = torch.cat([mean for mean, _ in found]), torch.cat([std for _, std in found])
        require(
            bool(mean.isfinite().all() and std.isfinite().all()),
            "the VAE encodes pictures to latents that are not finite: its weights are damaged, or "
            "too large for the type that they were stored in",
        )
        return mean, std

    def _posterior(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        where = next(self.vae.parameters())
        known = self.vae.encode(pixels.to(where.device, where.dtype)).latent_dist
        mean, std = known.mean.float().cpu(), known.std.float().cpu()
        return (mean - self.shift) * self.scale, std * self.scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures ``(B, C, H, W)`` in [-1, 1], on the latents' device."""
        where = next(self.vae.parameters())
        found = []
        for part in torch.split(latents, ENCODE_BATCH):
            plain = part.cpu() / self.scale + self.shift
            decoded = self.vae.decode(plain.to(where.device, where.dtype), return_dict=False)[0]
            found.append(decoded.float().to(latents.device))
        return torch.cat(found).clamp(-1, 1) if found else latents


MOST = 1e30  # for a number of a config; infinite ones and those that are none are not below


def _is_number(value: Any) -> bool:
    """Whether a value of a config is a number, and one of this size."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= MOST


def _require_numbers(name: str, given: Any, channels: int) -> None:
    """A config's numbers for each channel of a latent; of standard deviations none is 0."""
    least = "above 0 " if name == "latents_std" else ""
    require(
        isinstance(given, (list, tuple))
        and len(given) == channels
        and all(_is_number(value) and (not least or value > 0) for value in given),
        f"the vae's config has {name} {given}: it must hold {channels} numbers {least}".rstrip(),
    )


Encode = Callable[[Sequence[str]], TextCond]


@dataclass(eq=False)
class TextSpace(SampleSpace):
    """Latents with prompts; each picture and each prompt is encoded once, by content.

    Attributes:
        coder: The VAE.
        encode_texts: Encodes prompts, ``(B, ...)``.
        encoders: The networks that it runs.
    """

    coder: LatentCoder
    encode_texts: Encode
    encoders: Sequence[nn.Module] = ()
    _latents: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _prompts: dict[str, TextCond] = field(default_factory=dict, repr=False)

    def to(self, device: torch.device | str) -> None:
        """Move the VAE and the text encoders."""
        self.coder.vae.to(device)
        for encoder in self.encoders:
            encoder.to(device)

    def samples(
        self, images: ImageSet, indices: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Latents ``(B, *shape)``: draws from the VAE's posterior, or its mean."""
        digests = [images.digest(index) for index in indices.tolist()]
        self._remember(images, indices.tolist(), digests)
        mean = torch.stack([self._latents[digest][0] for digest in digests])
        if generator is None:
            return mean
        std = torch.stack([self._latents[digest][1] for digest in digests])
        return mean + std * torch.randn(mean.shape, generator=generator)

    def encode(self, pixels: Tensor) -> Tensor:
        """The posterior's mean."""
        return self.coder.posterior(pixels)[0].to(pixels.device)

    def decode(self, samples: Tensor) -> Tensor:
        """Pictures in [-1, 1]."""
        return self.coder.decode(samples)

    def conditions(self, images: ImageSet, indices: Tensor) -> TextCond:
        """The pictures' captions, encoded; the empty prompt where there is none."""
        return self.prompts([images.caption(index) or "" for index in indices.tolist()])

    def nothing(self, count: int) -> TextCond:
        """The empty prompt."""
        return self.prompts([""])[torch.zeros(count, dtype=torch.int64)]

    def drawn(self, indices: range, prompts: Sequence[Prompt] = ()) -> TextCond:
        """The given prompts in turn; without any, the empty one."""
        chosen: Sequence[Prompt] = prompts or [""]
        return self.prompts([chosen[index % len(chosen)] for index in indices])

    def asked_for(self, images: ImageSet) -> list[Prompt]:
        """The captions there are, each once."""
        return images.different_captions()

    def prompts(self, prompts: Sequence[Prompt]) -> TextCond:
        """Encoded prompts ``(B, ...)`` on the CPU."""
        rows = [self._prompt(prompt) for prompt in prompts]
        names = rows[0].fields
        return TextCond({name: torch.cat([row.fields[name] for row in rows]) for name in names})

    def check(self, images: ImageSet, role: str) -> None:
        """Refuse a set in which only some pictures have captions."""
        missing = [i for i in range(len(images)) if images.caption(i) is None]
        if missing and len(missing) < len(images):
            raise ValueError(
                f"{len(missing)} of {len(images)} {role} images have no caption "
                f"({images.name(missing[0])}): give all of them one, or none"
            )

    def _prompt(self, prompt: Prompt) -> TextCond:
        if isinstance(prompt, EmbeddedPrompt):
            fields = self._prompt(prompt.text).fields
            return TextCond({**fields, "prompt": prompt.embedding[None].float()})
        if prompt not in self._prompts:
            encoded = self.encode_texts([prompt]).to("cpu")
            require(
                all(bool(field.isfinite().all()) for field in encoded.fields.values()),
                f"the text encoder encodes {prompt!r} to numbers that are not finite: its weights "
                "are damaged, or too large for the type that they were stored in",
            )
            self._prompts[prompt] = encoded
        return self._prompts[prompt]

    def _remember(self, images: ImageSet, indices: Sequence[int], digests: Sequence[str]) -> None:
        """Encode what is new, each picture by itself.

        In a batch its latent would depend, in the last bits, on which others are new at the time,
        and a resumed run would differ from one that was not interrupted.
        """
        new = {d: i for d, i in zip(digests, indices, strict=True) if d not in self._latents}
        for digest, index in new.items():
            mean, std = self.coder.posterior(images.batch(torch.tensor([index])))
            self._latents[digest] = mean[0], std[0]


def text_space(model: DiffusionModel) -> TextSpace:
    """The sample space of a text-to-image model.

    Raises:
        ValueError: If the model takes no prompts.
    """
    if not isinstance(model.space, TextSpace):
        raise ValueError(
            f"{model.source} takes no prompts, so it has no text noise: give a text-to-image model"
        )
    return model.space


def encoded_prompts(model: DiffusionModel, prompts: Sequence[Prompt] | TextCond) -> TextCond:
    """Prompts as a model is given them, ``(P, ...)``; encoded ones stay as they are.

    Raises:
        ValueError: If the model takes no prompts, or there are none.
    """
    space = text_space(model)
    if isinstance(prompts, str) or not len(prompts):
        raise ValueError(f"prompts are {prompts!r}: give a list of one or more texts")
    return prompts if isinstance(prompts, TextCond) else space.prompts(prompts)
