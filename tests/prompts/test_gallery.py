"""The gallery of a prompt: every sample with its name and label, and how to correct one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dataunlearn.prompts.gallery import explain, render_gallery
from dataunlearn.prompts.labels import label_memorised, take_labels
from dataunlearn.prompts.published_layout import PromptData


@pytest.fixture
def images() -> Tensor:
    """Samples 0 to 5 are one picture; 6 to 9 are others."""
    stream = torch.Generator().manual_seed(0)
    drawn = 0.4 * torch.randn(10, 3, 8, 8, generator=stream)
    drawn[:6] = drawn[0] + 0.02 * torch.randn(6, 3, 8, 8, generator=stream)
    return drawn.clamp(-1, 1)


@pytest.fixture
def data() -> PromptData:
    folder = Path("run") / "003"
    files = tuple(folder / "images" / f"{index:02d}.png" for index in range(10))
    labels = {file.name: int(index < 6) for index, file in enumerate(files)}
    return PromptData("003", folder, 'Björk & <i>"Vulnicura"</i>', None, files, labels)


def figures(page: str) -> list[tuple[bool, str]]:
    """Whether framed, and its caption, of each figure."""
    found = re.findall(r"<figure( class=\"marked\")?>.*?<figcaption>(.*?)</figcaption>", page)
    return [(bool(marked), caption) for marked, caption in found]


def test_page(data: PromptData, images: Tensor) -> None:
    labelling = label_memorised(images, training_image=images[0])
    page = render_gallery(data, images, training_image=images[0], labelling=labelling)
    names = [file.name for file in data.files]
    assert figures(page) == [
        (False, "the training image"),
        *((True, name) for name in names[:6]),
        *((False, name) for name in names[6:]),
    ]
    assert "Memorised (6)" in page
    assert "Not memorised (4)" in page
    assert "6 of 10 samples of prompt 003 are labelled memorised" in page
    assert "<code>run/003/kmeans_labels.json</code> to 1 for memorised or 0" in page
    assert "the training image told which" in page
    assert "So it is memorised" in page


def test_page_stands_alone(data: PromptData, images: Tensor) -> None:
    """It refers to nothing outside, and a prompt is shown as text, not as HTML."""
    page = render_gallery(data, images)
    assert page.count("data:image/png;base64,") == 10
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "Björk &amp; &lt;i&gt;&#34;Vulnicura" in page
    assert "decided" not in page


def test_nothing_memorised(data: PromptData, images: Tensor) -> None:
    none = replace(data, labels=dict.fromkeys(data.labels, 0))
    page = render_gallery(none, images[:, :1])
    assert not any(marked for marked, _ in figures(page))
    assert re.search(r"Memorised \(0\)</h2>\s*<div class=\"row\">\s*<p class=\"note\">None", page)


def test_corrected_labels_are_said_to_be(data: PromptData, images: Tensor) -> None:
    labelling = label_memorised(images)
    assert "two clusters" in explain(data, labelling)
    corrected = replace(data, labels=dict(data.labels) | {"00.png": 0})
    assert explain(corrected, labelling) == "These labels were given or corrected by a person."
    given = take_labels(images, labelling.labels)
    assert "by a person" in explain(data, given)


def test_images_and_files_must_agree(data: PromptData, images: Tensor) -> None:
    with pytest.raises(ValueError, match="9 images for 10 files"):
        render_gallery(data, images[:9])
