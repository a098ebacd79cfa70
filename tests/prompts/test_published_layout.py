"""The published layout: written and read back, lists and paths, and what can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from dataunlearn.prompts import published_layout as layout
from dataunlearn.prompts.embeddings import read_embedding, write_embedding
from dataunlearn.prompts.published_layout import (
    read_labels,
    read_prompts,
    write_labels,
    write_prompts,
)

LABELS = {"0.png": 1, "1.png": 0, "2.png": 1, "10.png": 1}


def make_folder(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in LABELS:
        Image.new("L", (4, 4)).save(folder / "images" / name)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three prompts, labelled, in a folder of a folder."""
    root = tmp_path / "data" / "sd"
    for name in ("000", "001", "010"):
        write_labels(make_folder(root / name), LABELS)
    return root


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


def test_what_is_written_is_read_back(root: Path) -> None:
    embedding = torch.arange(6.0).reshape(1, 3, 2)
    texts = {"000": 'Björk "Vulnicura"', "001": "a boot", "010": "a hippo"}
    write_prompts(root, texts, {"001": "a shoe", "010": embedding})
    first, second, third = read_prompts(root)
    assert [first.name, second.name, third.name] == ["000", "001", "010"]
    assert (first.prompt, first.modified) == ('Björk "Vulnicura"', None)
    assert (second.prompt, second.modified) == ("a boot", "a shoe")
    assert isinstance(third.modified, torch.Tensor)
    torch.testing.assert_close(third.modified, embedding[0])
    assert [path.name for path in first.memorised_files] == ["0.png", "10.png", "2.png"]
    assert [path.name for path in first.other_files] == ["1.png"]
    assert first.share_memorised == 0.75


def test_the_files_are_those_of_the_published_layout(root: Path) -> None:
    """Other programs read them, and load the embedding as a plain tensor."""
    write_prompts(root, {"000": "a", "001": "b", "010": "c"}, {"010": torch.ones(3, 2)})
    write_labels(root / "000", LABELS, memorised_cluster=0)
    clustering = json.loads((root / "000" / "clustering_info.json").read_text())
    assert clustering == {"mem_idx": 0, "frac_deletion": 0.75}
    assert json.loads((root / "000" / "kmeans_labels.json").read_text()) == LABELS
    assert json.loads((root / "original_prompts.json").read_text())["001"] == "b"
    path = json.loads((root / "modified_prompts.json").read_text())["010"]
    assert path.endswith(".pt")
    stored = torch.load(root / path, weights_only=True)
    assert type(stored) is torch.Tensor
    assert torch.equal(stored, torch.ones(3, 2))


def test_lists_are_numbered(root: Path) -> None:
    """Index i is the folder whose name is the number i, with or without leading zeros."""
    (root / "010").rename(root / "2")
    write(root / "original_prompts.json", ["a", "b", "c"])
    write(root / "modified_prompts.json", [None, "B"])
    found = read_prompts(root)
    assert [(data.name, data.prompt, data.modified) for data in found] == [
        ("000", "a", None),
        ("001", "b", "B"),
        ("2", "c", None),
    ]


def test_numbers_come_in_their_order_and_before_names(root: Path) -> None:
    (root / "000").rename(root / "daft_punk")
    (root / "001").rename(root / "9")
    write_prompts(root, {"daft_punk": "a", "9": "b", "010": "c"})
    assert [data.name for data in read_prompts(root)] == ["9", "010", "daft_punk"]


def test_prompt_files_may_lie_beside_the_folders(root: Path) -> None:
    """As published: the prompts of data/sd/NAME in data, a path that starts elsewhere."""
    write(root.parent / "original_prompts.json", {"0": "a", "1": "b", "10": "c"})
    write(root.parent / "modified_prompts.json", {"10": "data/datasets/sd/10/prompt.pt"})
    write_embedding(root / "010" / "prompt.pt", torch.ones(1, 4, 2))
    modified = read_prompts(root)[2].modified
    assert isinstance(modified, torch.Tensor)
    assert modified.shape == (4, 2)


def test_corrected_labels_count(root: Path) -> None:
    """The share follows the labels, not the file that was written with earlier ones."""
    write_prompts(root, {"000": "a", "001": "b", "010": "c"})
    write(root / "000" / "kmeans_labels.json", LABELS | {"2.png": 0})
    assert read_prompts(root)[0].share_memorised == 0.5


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS | {"lost.png": 1}, "labels of lost.png have no image"),
        ({"0.png": 1, "1.png": 0}, "images 10.png, 2.png have no label: add 1"),
        (LABELS | {"1.png": 2}, "give 1 .memorised. or 0 as label of 1.png"),
        (LABELS | {"1.png": True}, "as label of 1.png"),
        (LABELS | {"1.png": 0.5}, "as label of 1.png"),
        ([1, 0, 1, 1], "must map file names to labels"),
    ],
)
def test_wrong_labels(root: Path, labels: object, message: str) -> None:
    write(root / "000" / "kmeans_labels.json", labels)
    with pytest.raises(ValueError, match=message) as raised:
        read_labels(root / "000")
    assert "kmeans_labels.json" in str(raised.value)


def test_wrong_labels_are_not_written(root: Path) -> None:
    before = {path: path.read_bytes() for path in (root / "000").glob("*.json")}
    with pytest.raises(ValueError, match="have no label"):
        write_labels(root / "000", {"0.png": 0})
    with pytest.raises(ValueError, match="give 0 or 1"):
        write_labels(root / "000", LABELS, memorised_cluster=2)
    assert {path: path.read_bytes() for path in (root / "000").glob("*.json")} == before


def test_missing_files_are_named(root: Path) -> None:
    with pytest.raises(ValueError, match=r"sd/original_prompts.json is missing"):
        read_prompts(root)
    write_prompts(root, {"000": "a", "001": "b", "010": "c"})
    (root / "001" / "kmeans_labels.json").unlink()
    with pytest.raises(ValueError, match=r"001/kmeans_labels.json is missing"):
        read_prompts(root)
    with pytest.raises(ValueError, match="there is no folder"):
        read_prompts(root / "none")
    (root / "new" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match="has no images"):
        layout.image_files(root / "new")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"0": "a", "1": "b"}, "folders of .* 10 have no entry in original_prompts.json"),
        ({"0": "a", "1": "b", "10": "c", "11": "d"}, "original_prompts.json 11 have no folder"),
        ({"0": "a", "1": "", "10": "c"}, "entry 1 is ''"),
        ({"0": "a", "00": "b", "1": "b", "10": "c"}, "00 twice"),
        ("a", "must map folder names to texts"),
    ],
)
def test_wrong_prompt_files(root: Path, prompts: object, message: str) -> None:
    write(root / "original_prompts.json", prompts)
    with pytest.raises(ValueError, match=message):
        read_prompts(root)


def test_modified_prompts_need_originals_and_files(root: Path) -> None:
    write_prompts(root, {"000": "a", "001": "b", "010": "c"})
    write(root / "modified_prompts.json", {"5": "x"})
    with pytest.raises(ValueError, match=r"modified_prompts.json 5 are not in original"):
        read_prompts(root)
    write(root / "modified_prompts.json", {"000": "000/lost.pt"})
    with pytest.raises(ValueError, match=r"no prompt embedding .*000/lost.pt"):
        read_prompts(root)
    (root / "modified_prompts.json").write_text("{")
    with pytest.raises(ValueError, match=r"modified_prompts.json is no JSON"):
        read_prompts(root)


@pytest.mark.parametrize(
    ("prompts", "modified", "message"),
    [
        ({"../x": "a"}, None, "no folder name"),
        ({".x": "a"}, None, "no folder name"),
        ({"": "a"}, None, "no folder name"),
        ({"0": " "}, None, "give a text"),
        ({"0": "a"}, {"0": "b.pt"}, "does not end in .pt"),
        ({"0": "a"}, {"1": "b"}, "modified prompts 1 have no original"),
        ({"0": "a", "1": "b"}, {"0": torch.ones(2, 2), "1": torch.ones(5)}, "prompt 1 is a"),
    ],
)
def test_wrong_prompts_are_not_written(
    tmp_path: Path, prompts: dict[str, str], modified: dict[str, object] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_prompts(tmp_path / "data", prompts, modified)  # type: ignore[arg-type]
    assert not (tmp_path / "data").exists()


class Pickled:
    """An object whose unpickling would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Pickled(), "cannot be read as a tensor"),
        ({"prompt": torch.ones(2, 2)}, "holds a dict, no tensor"),
        (torch.ones(2, 3, 4), "shape .2, 3, 4."),
        (torch.ones(2, 2, dtype=torch.long), "torch.int64"),
        (torch.tensor([[1.0, torch.nan]]), "not finite"),
    ],
)
def test_other_things_than_embeddings_are_refused(
    tmp_path: Path, content: object, message: str
) -> None:
    torch.save(content, tmp_path / "prompt.pt")
    with pytest.raises(ValueError, match=message):
        read_embedding(tmp_path / "prompt.pt")


def test_an_embedding_that_was_optimised(tmp_path: Path) -> None:
    """A parameter that is a view of something larger is stored alone, as plain values."""
    large = torch.nn.Parameter(torch.randn(100, 77, 8, dtype=torch.float16))
    write_embedding(tmp_path / "prompt.pt", large[3])
    found = read_embedding(tmp_path / "prompt.pt")
    assert torch.equal(found, large[3])
    assert not found.requires_grad
    assert (tmp_path / "prompt.pt").stat().st_size < 4000
    assert [path.name for path in tmp_path.iterdir()] == ["prompt.pt"]
