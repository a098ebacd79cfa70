"""Prompt files that lose nothing: line ends, further columns, names of files that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataunlearn.prompts.prompt_file import read_prompt_file, texts_of


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["p.txt", "p.csv"])
def test_lines_end_as_they_may(tmp_path: Path, name: str, end: str) -> None:
    path = tmp_path / name
    lines = ["a red kite", "a blue kite"]
    lines = ["caption", *lines] if name == "p.csv" else lines
    path.write_bytes(end.join(lines).encode())
    assert [spec.prompt for spec in read_prompt_file(path)] == ["a red kite", "a blue kite"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", '{"prompt": "a kite", "image": "a.png", "modified": "a bird", "seed": 3}'),
        ("p.csv", "prompt,image,modified,seed\na kite,a.png,a bird,3\n"),
    ],
)
def test_what_a_table_says_of_its_prompts_is_kept(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / name).write_text(content)
    (spec,) = read_prompt_file(tmp_path / name)
    assert (spec.prompt, spec.modified) == ("a kite", "a bird")
    assert spec.image is not None
    assert Path(spec.image).name == "a.png"


def test_an_address_is_no_file_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,image\na kite,https://example.org/a.png\n")
    said: list[str] = []
    (spec,) = read_prompt_file(tmp_path / "p.csv", said.append)
    assert spec.image is None
    assert "image that is no file here" in said[0]


@pytest.mark.parametrize(
    "text",
    [
        "lists/missing.xlsx",
        "lists/missing.jsonl.gz",
        "prompts.csv#train",
        "me/dataset",
        "/a/b.csv ",
    ],
)
def test_a_file_that_is_not_there_is_no_prompt(text: str) -> None:
    with pytest.raises(ValueError, match=r"no prompt file|known kind"):
        texts_of(text)


@pytest.mark.parametrize("text", ["kite", "a photo of node.json", "yes/no, a sign", "kite, 3.5"])
def test_words_are_a_prompt(text: str) -> None:
    assert texts_of(text) == [text]
