"""Embedders: pictures to vectors, for copy similarity, FID and KID.

An embedder's preprocessing is part of what it measures, so it is pinned here and printed with every
number. Named ones: ``pixels``; ``digits`` (the shipped classifier's last hidden layer);
``efficientnet_lite0`` (an ImageNet encoder whose weights are a package: the extra ``encoder``);
``inception`` (FID's own network, through torch-fidelity where that is installed);
``sscd:PATH``, ``sscd:download`` (Pizzi et al. 2022, sscd_disc_mixup); or the path of any network
that takes normalised RGB pictures, as TorchScript (.pt, .pth, .torchscript) or ONNX (.onnx).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from dataunlearn.metrics.digits import load_digit_classifier
from dataunlearn.metrics.embedder_networks import (
    downloaded,
    efficientnet_lite0,
    existing,
    onnx,
    torchscript,
)
from dataunlearn.runtime.files import file_hash

CPU = torch.device("cpu")
BATCH_SIZE = {"cpu": 8, "cuda": 64}  # on a CPU the pages of large activations cost more than layers
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SSCD_URL = "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchscript.pt"
SCRIPT_SUFFIXES = (".pt", ".pth", ".torchscript")


class Embedder(ABC):
    """Pictures to vectors.

    Attributes:
        name: What it is called in results.
        settings: Everything its vectors depend on, as JSON values.
        module: The network, or None if there is none that could be moved to a GPU.
        device: Where it runs.
    """

    name: str
    settings: dict[str, Any]
    module: nn.Module | None = None
    device: torch.device = CPU

    def to(self, device: torch.device) -> Self:
        """Move to a CUDA device; elsewhere resizing is not exact, so it stays on the CPU."""
        if self.module is not None and device.type == "cuda":
            self.module.to(device)
            self.device = device
        return self

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Vectors ``(B, D)`` of one batch of pictures ``(B, C, H, W)`` in [-1, 1]."""

    @torch.no_grad()
    def __call__(self, images: Tensor, batch_size: int | None = None) -> Tensor:
        """Vectors ``(N, D)`` float32 on the CPU of pictures ``(N, C, H, W)`` in [-1, 1].

        Args:
            images: The pictures.
            batch_size: Pictures at a time; without it 8 on a CPU and 64 on a GPU.

        Raises:
            ValueError: If there are no pictures, or a vector is not finite.
        """
        if not len(images):
            raise ValueError(f"{self.name}: there are no pictures to embed")
        parts = [
            self.embed(batch.to(self.device).float()).float().cpu()
            for batch in torch.split(images, batch_size or BATCH_SIZE[self.device.type])
        ]
        vectors = torch.cat(parts).flatten(1)
        wrong = (~vectors.isfinite().all(1)).nonzero().flatten().tolist()
        if wrong:
            which = f"picture {wrong[0]} of {len(images)}"
            raise ValueError(f"{self.name} makes a vector of {which} that is not finite")
        return vectors


class RememberingEmbedder(Embedder):
    """Another embedder that embeds each tensor of pictures once.

    Measures compare the same samples and images again and again. A tensor is known by being the
    same object, so it must not be changed.

    Args:
        inner: The embedder.
    """

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner
        self.name, self.settings = inner.name, inner.settings
        self.module, self.device = inner.module, inner.device
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # holds the pictures: ids stay theirs

    def embed(self, images: Tensor) -> Tensor:
        """The other embedder's vectors."""
        return self.inner.embed(images)

    def __call__(self, images: Tensor, batch_size: int | None = None) -> Tensor:
        """Vectors ``(N, D)``, from memory where these pictures were embedded before."""
        if id(images) not in self._known:
            self._known[id(images)] = images, self.inner(images, batch_size)
        return self._known[id(images)][1]


class PixelEmbedder(Embedder):
    """The pixels themselves, in [-1, 1], as one vector."""

    name = "pixels"

    def __init__(self) -> None:
        """Nothing to set."""
        self.settings = {"embedder": self.name, "range": [-1, 1]}

    def embed(self, images: Tensor) -> Tensor:
        """Flattened pictures."""
        return images.flatten(1)


class DigitEmbedder(Embedder):
    """The last hidden layer, 128 wide, of the shipped digit classifier; 28x28 grey pictures."""

    name = "digits"

    def __init__(self) -> None:
        """Load the shipped weights."""
        self.module = self.classifier = load_digit_classifier()
        self.settings = {"embedder": self.name, "layer": "last hidden, after ReLU", "size": 28}

    def embed(self, images: Tensor) -> Tensor:
        """Activations after the ReLU, before dropout."""
        if images.shape[1:] != (1, 28, 28):
            shape = tuple(images.shape[1:])
            raise ValueError(f"the digit embedder takes pictures of (1, 28, 28), not {shape}")
        classifier = self.classifier
        return torch.as_tensor(classifier.head[:3](classifier.features(images)))


class InceptionEmbedder(Embedder):
    """The Inception network that FID is defined with, 2048 wide; resizes to 299 by itself."""

    name = "inception"

    def __init__(self, size: int | None = None) -> None:
        """Load it; torch-fidelity fetches the weights.

        Raises:
            ValueError: If a size is given, or torch-fidelity is missing.
        """
        if size is not None:
            raise ValueError("the embedder inception has no size to set")
        from torchmetrics.image.fid import NoTrainInceptionV3

        try:
            self.module = self.network = NoTrainInceptionV3("inception-v3-compat", ["2048"])
        except ModuleNotFoundError as error:
            raise ValueError(
                "the embedder inception needs torch-fidelity, which needs torchvision: "
                "pip install torch-fidelity, or take efficientnet_lite0"
            ) from error
        self.settings = {"embedder": self.name, "layer": 2048, "resize": "299, by the network"}

    def embed(self, images: Tensor) -> Tensor:
        """Pooled features of 8-bit RGB pictures."""
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return torch.as_tensor(self.network(pixels.expand(-1, 3, -1, -1)))


@dataclass(frozen=True)
class Preprocessing:
    """How pictures in [-1, 1] become a network's input.

    Attributes:
        size: The shorter side is resized to this many pixels (bicubic, antialiased), the longer
            one in proportion; nothing is cropped. Grey becomes RGB.
        mean: Subtracted from pixels in [0, 1], by channel.
        std: Divided by, by channel.
    """

    size: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __call__(self, images: Tensor) -> Tensor:
        """Network input ``(B, 3, h, w)``."""
        pixels = (images.clamp(-1, 1) + 1) / 2
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        height, width = pixels.shape[2:]
        scale = self.size / min(height, width)
        target = (round(height * scale), round(width * scale))
        if target != (height, width):
            pixels = functional.interpolate(pixels, target, mode="bicubic", antialias=True)
            pixels = pixels.clamp(0, 1)
        mean, std = pixels.new_tensor(self.mean), pixels.new_tensor(self.std)
        return (pixels - mean[:, None, None]) / std[:, None, None]

    def describe(self) -> dict[str, Any]:
        """JSON values."""
        resize = f"shorter side to {self.size}, bicubic, antialiased, no crop"
        return {"resize": resize, "mean": list(self.mean), "std": list(self.std)}


class NetworkEmbedder(Embedder):
    """Any network behind pinned preprocessing."""

    def __init__(
        self,
        name: str,
        network: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        source: Path,
    ) -> None:
        """Name a network.

        Args:
            name: What it is called.
            network: Normalised RGB pictures to vectors, in eval mode.
            preprocessing: What comes before it.
            source: The file of its weights; its hash goes into the settings.
        """
        self.name, self.network, self.preprocessing = name, network, preprocessing
        self.module = network if isinstance(network, nn.Module) else None
        self.settings = {
            "embedder": name,
            "file": source.name,
            "sha256": file_hash(source),
            **preprocessing.describe(),
        }

    def embed(self, images: Tensor) -> Tensor:
        """Preprocess, then the network."""
        return self.network(self.preprocessing(images))


def embedder_for(
    shape: tuple[int, ...],
    name: str,
    size: int | None = None,
    device: torch.device = CPU,
) -> Embedder:
    """:func:`open_embedder` for pictures of shape ``(C, H, W)``, on ``device`` if that is CUDA.

    Here ``auto`` takes ``digits`` for grey pictures of MNIST's size, else ``efficientnet_lite0``.
    """
    if name == "auto":
        name = "digits" if shape == (1, 28, 28) and size is None else "efficientnet_lite0"
    return open_embedder(name, size).to(device)


def open_embedder(name: str, size: int | None = None) -> Embedder:
    """Open an embedder by name or path.

    Args:
        name: ``pixels``, ``digits``, ``efficientnet_lite0``, ``inception``, ``sscd:PATH``,
            ``sscd:download``, or the path of a TorchScript or ONNX file.
        size: Pixels of the shorter side that a network sees; None takes 288 for SSCD (its authors'
            advice) and 224 for others.

    Raises:
        ValueError: If there is no such embedder or file, or what it needs is not installed.
    """
    if name in ("pixels", "digits"):
        if size is not None:
            raise ValueError(f"the embedder {name} has no size to set")
        return PixelEmbedder() if name == "pixels" else DigitEmbedder()
    if name == "efficientnet_lite0":
        network, path = efficientnet_lite0()
        return NetworkEmbedder(name, network, Preprocessing(size or 224), path)
    if name == "inception":
        return InceptionEmbedder(size)
    kind, _, rest = name.partition(":")
    if kind == "sscd" and rest:
        path = downloaded(SSCD_URL) if rest == "download" else existing(rest)
        return NetworkEmbedder("sscd", torchscript(path), Preprocessing(size or 288), path)
    suffix = Path(name).suffix.lower()
    if suffix in SCRIPT_SUFFIXES:
        path = existing(name)
        return NetworkEmbedder(path.stem, torchscript(path), Preprocessing(size or 224), path)
    if suffix == ".onnx":
        path = existing(name)
        return NetworkEmbedder(path.stem, onnx(path), Preprocessing(size or 224), path)
    raise ValueError(
        f"there is no embedder {name!r}; give pixels, digits, efficientnet_lite0, inception, "
        "sscd:PATH, sscd:download, or the path of a .torchscript or .onnx file"
    )
