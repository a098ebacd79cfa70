"""CLIP-IQA with a tiny random CLIP from a folder, against its formula."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from dataunlearn.base_models.tokenizer import train_tokenizer
from dataunlearn.metrics.catalogue import MEASURES
from dataunlearn.metrics.clip_iqa import ClipIQA, clip_iqa, open_clip_iqa
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.models.families import wrap_pipeline
from tiny_pipelines import stable_diffusion

SIZE = 16
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of one layer that sees pictures of 16x16."""
    path = tmp_path_factory.mktemp("clip")
    tokenizer = train_tokenizer(["good bad photo."], vocab_size=600, model_max_length=16)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 16,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**sizes, **text, "num_attention_heads": 2},
        vision_config={**sizes, "num_attention_heads": 2, "image_size": SIZE, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    clip = CLIPModel(config)
    with torch.no_grad():  # texts that are nearly alike, so that the softmax is no step
        clip.text_model.final_layer_norm.bias.normal_(std=20)
    clip.save_pretrained(path)
    pictures = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=SIZE)
    CLIPProcessor(image_processor=pictures, tokenizer=tokenizer).save_pretrained(path)
    return path


def eight_bit(count: int) -> Tensor:
    """Pictures in [-1, 1] of 8-bit values."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, SIZE, SIZE), generator=generator) / 127.5 - 1


def by_hand(folder: Path, images: Tensor) -> Tensor:
    """Softmax over "good" and "bad" of 100 times the cosine, on pixels normalised by hand."""
    clip = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPProcessor.from_pretrained(folder).tokenizer
    tokens = tokenizer(["Good photo.", "Bad photo."], return_tensors="pt", padding=True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    with torch.no_grad():
        seen = clip.get_image_features(((images + 1) / 2 - mean) / std).pooler_output
        said = clip.get_text_features(**tokens).pooler_output
    cosine = torch.nn.functional.cosine_similarity(seen[:, None], said[None], dim=2)
    return torch.sigmoid(100 * (cosine[:, 0] - cosine[:, 1]))


def test_quality_is_the_formula(folder: Path) -> None:
    images = eight_bit(5)
    found = clip_iqa(images, open_clip_iqa(str(folder)), batch_size=2)  # the last batch holds one
    expected = by_hand(folder, images)
    assert found.per_item is not None
    torch.testing.assert_close(found.per_item, expected, rtol=1e-3, atol=1e-4)
    assert found.value == pytest.approx(expected.mean().item(), rel=1e-3)
    assert found.interval is not None
    assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= 1
    assert found.per_item.std() > 0.01
    assert found.per_item.min() > 0.01 and found.per_item.max() < 0.99
    assert found.higher_is_better


def test_a_metric_can_be_used_again(folder: Path) -> None:
    images, metric = eight_bit(3), open_clip_iqa(str(folder))
    first, second = clip_iqa(images, metric), clip_iqa(images[:1], metric)
    assert first.per_item is not None and second.per_item is not None
    torch.testing.assert_close(second.per_item, first.per_item[:1], rtol=1e-4, atol=1e-5)
    assert second.interval is None


def test_measure_of_samples(folder: Path) -> None:
    model = wrap_pipeline(stable_diffusion())
    inputs = Inputs(model, prompts=["red"], num_samples=3, sampling_steps=1, shown=False)
    measure = MEASURES["clip_iqa"](clip=str(folder))  # type: ignore[call-arg]
    measure.check(inputs)
    (found,) = measure(inputs)
    assert found.name == "clip_iqa"
    assert found.settings == {
        "clip": str(folder),
        "prompts": ["Good photo.", "Bad photo."],
        "num_samples": 3,
    }
    rounded = ((inputs.samples + 1) * 127.5).round() / 127.5 - 1
    assert found.per_item is not None
    torch.testing.assert_close(found.per_item, by_hand(folder, rounded), rtol=1e-3, atol=1e-4)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="give the folder of a transformers CLIP"):
        open_clip_iqa(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="give the folder of a transformers CLIP"):
        open_clip_iqa(str(tmp_path))

    def without_piq(*args: object, **settings: object) -> None:
        raise ValueError("package piq must be installed")

    metric = "torchmetrics.multimodal.clip_iqa.CLIPImageQualityAssessment"
    monkeypatch.setattr(metric, without_piq)
    with pytest.raises(ValueError, match="pip install piq"):
        open_clip_iqa("clip_iqa")


def test_grey_and_missing_pictures_are_errors(folder: Path) -> None:
    model = wrap_pipeline(stable_diffusion())
    model.image_shape = (1, 16, 16)
    with pytest.raises(ValueError, match="RGB pictures; the model draws"):
        ClipIQA(str(folder)).check(Inputs(model))
    metric = open_clip_iqa(str(folder))
    for wrong in (torch.zeros(2, 1, 16, 16), torch.zeros(0, 3, 16, 16)):
        with pytest.raises(ValueError, match="takes RGB pictures"):
            clip_iqa(wrong, metric)
