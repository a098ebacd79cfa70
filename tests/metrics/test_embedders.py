"""Embedders: pinned preprocessing against pillow, every way to name one, and the errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from torch import Tensor, nn

from dataunlearn.metrics.digits import load_digit_classifier
from dataunlearn.metrics.embedders import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, open_embedder


class Means(nn.Module):
    """Channel means: a network whose vectors can be worked out by hand."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


@pytest.fixture
def images() -> Tensor:
    stream = torch.Generator().manual_seed(0)
    return torch.rand(5, 3, 16, 12, generator=stream) * 2 - 1


def save_script(path: Path) -> Path:
    torch.jit.script(Means()).save(str(path))
    return path


def save_onnx(path: Path) -> Path:
    entry = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "h", "w"])
    result = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 3])
    node = helper.make_node("ReduceMean", ["images"], ["vectors"], axes=[2, 3], keepdims=0)
    graph = helper.make_graph([node], "means", [entry], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


def normalised_means(images: Tensor) -> Tensor:
    pixels = (images.mean(dim=(2, 3)) + 1) / 2
    return (pixels - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)


@pytest.mark.parametrize("save", [save_script, save_onnx])
def test_network_from_a_file(save, tmp_path: Path, images: Tensor) -> None:
    suffix = ".torchscript" if save is save_script else ".onnx"
    embedder = open_embedder(str(save(tmp_path / f"means{suffix}")), size=12)
    torch.testing.assert_close(
        embedder(images, batch_size=2), normalised_means(images), atol=1e-5, rtol=0
    )
    assert embedder.name == "means"
    assert len(embedder.settings["sha256"]) == 64
    assert embedder.settings["resize"].startswith("shorter side to 12")


def test_sscd_sees_288_pixels_unless_told(tmp_path: Path) -> None:
    path = save_script(tmp_path / "anything.pt")
    assert "288" in open_embedder(f"sscd:{path}").settings["resize"]
    assert "320" in open_embedder(f"sscd:{path}", size=320).settings["resize"]


def test_resizing_follows_pillow() -> None:
    """Pillow's bicubic filter widens when it shrinks (antialias); so does ours."""
    ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8)[:, None], (1, 20))
    image = Image.fromarray(ramp)
    expected = np.asarray(image.resize((10, 20), Image.Resampling.BICUBIC)) / 255
    images = torch.from_numpy(ramp.copy())[None, None] / 127.5 - 1
    found = Preprocessing(10, (0, 0, 0), (1, 1, 1))(images)
    assert found.shape == (1, 3, 20, 10)
    torch.testing.assert_close(
        found[0, 1], torch.from_numpy(expected).float(), atol=1.5 / 255, rtol=0
    )


def test_pixels_are_flattened(images: Tensor) -> None:
    torch.testing.assert_close(open_embedder("pixels")(images), images.flatten(1))


def test_digit_features_feed_the_classifiers_last_layer() -> None:
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    classifier = load_digit_classifier()
    found = open_embedder("digits")(images)
    assert found.shape == (3, 128)
    with torch.no_grad():
        torch.testing.assert_close(classifier.head[4](found), classifier(images))
    with pytest.raises(ValueError, match=r"\(1, 28, 28\)"):
        open_embedder("digits")(torch.zeros(1, 3, 28, 28))


def test_imagenet_encoder_tells_pictures_apart_but_not_their_mirror_images() -> None:
    """A trained encoder sees a picture and its mirror image as nearly one, two pictures not."""
    embedder = open_embedder("efficientnet_lite0", size=64)
    stream = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 4, 4, generator=stream) * 2 - 1
    images = nn.functional.interpolate(coarse, 64, mode="bicubic").clamp(-1, 1)
    found = nn.functional.normalize(embedder(torch.cat([images, images.flip(3)])), dim=1)
    assert found.shape == (4, 1280)
    likeness = found @ found.T
    assert likeness[0, 2] > likeness[0, 1] + 0.05
    assert likeness[1, 3] > likeness[0, 1] + 0.05
    assert torch.equal(embedder(images), embedder(images))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet", "there is no embedder 'resnet'"),
        ("sscd", "there is no embedder 'sscd'"),
        ("sscd:nowhere.pt", "nowhere.pt does not exist"),
        ("nowhere.onnx", "nowhere.onnx does not exist"),
        ("inception", "needs torch-fidelity"),
    ],
)
def test_unknown_names_and_missing_files(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_embedder(name)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="not a TorchScript network"):
        open_embedder(str(tmp_path / "weights.pt"))


def test_sizes_that_would_be_ignored_and_empty_sets_are_errors() -> None:
    for name in ("pixels", "digits", "inception"):
        with pytest.raises(ValueError, match="no size to set"):
            open_embedder(name, size=64)
    with pytest.raises(ValueError, match="no pictures"):
        open_embedder("pixels")(torch.zeros(0, 1, 4, 4))
