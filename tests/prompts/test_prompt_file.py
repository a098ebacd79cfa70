"""Prompt files of every kind, and what is wrong with others."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from dataunlearn.prompts.prompt_file import PromptSpec, read_prompt_file, texts_of

ENTRIES = """
- A plain prompt
- prompt: "Rambo: the boot"
  name: rambo
  image: pictures/boot.png
  modified: a boot
- {prompt: Third, modified: [one, two]}
- {prompt: Fourth, modified: fourth.pt}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "boot.png").touch()
    (tmp_path / "fourth.pt").touch()
    return tmp_path


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def expected(folder: Path) -> list[PromptSpec]:
    return [
        PromptSpec("000", "A plain prompt", "000"),
        PromptSpec("001", "Rambo: the boot", "rambo", folder / "pictures" / "boot.png", "a boot"),
        PromptSpec("002", "Third", "002", None, ("one", "two")),
        PromptSpec("003", "Fourth", "003", None, folder / "fourth.pt"),
    ]


def test_yaml_and_json_say_the_same(folder: Path) -> None:
    assert read_prompt_file(written(folder, "prompts.yaml", ENTRIES)) == expected(folder)
    entries = [
        "A plain prompt",
        {
            "prompt": "Rambo: the boot",
            "name": "rambo",
            "image": "pictures/boot.png",
            "modified": "a boot",
        },
        {"prompt": "Third", "modified": ["one", "two"]},
        {"prompt": "Fourth", "modified": "fourth.pt"},
    ]
    assert read_prompt_file(written(folder, "p.json", json.dumps(entries))) == expected(folder)


def test_text_lines(folder: Path) -> None:
    """Any line is a prompt, but for empty ones; a mark at the file's start is no part of it."""
    path = written(folder, "prompts.txt", "\ufeffFirst: one\r\n\n  # second  \n")
    assert [spec.prompt for spec in read_prompt_file(path)] == ["First: one", "# second"]


def test_folder_names_sort_as_the_prompts_do(folder: Path) -> None:
    specs = read_prompt_file(written(folder, "p.txt", "\n".join(f"p{i}" for i in range(1001))))
    names = [spec.folder for spec in specs]
    assert (names[0], names[-1]) == ("0000", "1000")
    assert names == sorted(names)


def test_list_of_memorised_prompts(folder: Path) -> None:
    """Columns of the published lists; "N" is not memorised, and a caption may stand there twice."""
    table = {
        "caption": ["a boot", "a hippo", "a boot", None, "a sky", 'Björk "x"'],
        "url": ["u"] * 6,
        "overfit_type": ["MV", "N", "TV", "MV", None, "RV"],
        "retrieved_urls": [["u"], [], ["u"], [], [], ["u", "v"]],
    }
    parquet.write_table(pa.table(table), folder / "list.parquet")
    prompts = [spec.prompt for spec in read_prompt_file(folder / "list.parquet")]
    assert prompts == ["a boot", 'Björk "x"']


@pytest.mark.parametrize("column", ["caption", "TEXT", "Prompt"])
def test_csv_column_names(folder: Path, column: str) -> None:
    """A quoted caption may hold commas and line ends."""
    path = written(folder, "p.csv", f'index,{column},url\n7,"one, two\nthree",u\n8,,u\n9,four,u\n')
    assert [spec.prompt for spec in read_prompt_file(path)] == ["one, two\nthree", "four"]


def test_tables_without_prompts(folder: Path) -> None:
    with pytest.raises(ValueError, match="columns index, url; name the one"):
        read_prompt_file(written(folder, "p.csv", "index,url\n1,u\n"))
    with pytest.raises(ValueError, match="no parquet file"):
        read_prompt_file(written(folder, "p.parquet", "caption\n"))
    parquet.write_table(pa.table({"caption": ["a"], "overfit_type": ["N"]}), folder / "n.parquet")
    with pytest.raises(ValueError, match="has no prompts"):
        read_prompt_file(folder / "n.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- one\n- two\n- one", "entry 3: the prompt 'one' is that of entry 1 too"),
        ("- one\n- {prompt: two, name: x}\n- {prompt: three, name: x}", "entry 3: the name 'x'"),
        ("- one\n- ''", "entry 2: prompt is missing or empty"),
        ("- {name: x}", "entry 1: prompt is missing"),
        ("- {prompt: one, imgae: x.png}", "entry 1: unknown key 'imgae'"),
        ("- Rambo: the boot", "entry 1: unknown key 'Rambo'.*colon needs quotes"),
        ("- 1984", "entry 1: 1984 is no text; put it in quotes"),
        ("- {prompt: one, name: 7}", "entry 1: name is 7, no text"),
        ("- {prompt: one, image: lost.png}", "entry 1: image: there is no file .*lost.png"),
        ("- {prompt: one, modified: lost.pt}", "entry 1: modified: there is no file .*lost.pt"),
        ("- {prompt: one, modified: []}", r"entry 1: modified is \[\]"),
        ("- {prompt: one, modified: [a, fourth.pt]}", "path of one embedding, no list"),
        ("- {prompt: one, modified: [a, '']}", "modified is missing or empty"),
        ("one: two", "must hold a list"),
        ("- {prompt: one", "is no YAML"),
        ("", "has no prompts"),
    ],
)
def test_wrong_entries(folder: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_prompt_file(written(folder, "prompts.yaml", content))


def test_wrong_files(folder: Path) -> None:
    with pytest.raises(ValueError, match="line 3: the prompt 'a' is that of line 1 too"):
        read_prompt_file(written(folder, "p.txt", "a\n\na\n"))
    with pytest.raises(ValueError, match="is no JSON"):
        read_prompt_file(written(folder, "p.json", "["))
    with pytest.raises(ValueError, match=r"no known kind; give one of \.yaml"):
        read_prompt_file(written(folder, "p.doc", "a"))
    with pytest.raises(ValueError, match="there is no prompt file"):
        read_prompt_file(folder / "none.yaml")
    (folder / "latin.txt").write_bytes("Björk".encode("latin-1"))
    with pytest.raises(ValueError, match="save it as UTF-8"):
        read_prompt_file(folder / "latin.txt")


def test_a_training_image_may_lie_in_an_archive(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(b"")
    file = tmp_path / "prompts.yaml"
    file.write_text('- {prompt: one, image: "set.npz:x[3]"}\n')
    (found,) = read_prompt_file(file)
    assert found.image == tmp_path / "set.npz:x[3]"
    file.write_text('- {prompt: one, image: "lost.npz:x[3]"}\n')
    with pytest.raises(ValueError, match="there is no file"):
        read_prompt_file(file)


LINES = '{"caption": "a red kite", "index": 1}\n{"caption": "a blue\\u2028kite", "url": "y"}\n'


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("p.jsonl", LINES, ["a red kite", "a blue\u2028kite"]),
        ("p.jsonl", '\ufeff"one"\n\n{"prompt": "two", "name": "x"}\n', ["one", "two"]),
        ("p.tsv", "caption\turl\na red, kite\tx\n", ["a red, kite"]),
        ("p.csv", ";Caption;URL;type\n0;a red kite, flying;x;VM\n", ["a red kite, flying"]),
        ("p.csv", 'prompt\n"a red, kite"\n"two\nlines"\n', ["a red, kite", "two\nlines"]),
        ("p.csv", f'caption\n"{"x" * 140_000}"\n', ["x" * 140_000]),
        ("p.csv", " Caption , overfit_type\na, mv\nb,Tv \nc,N\n", ["a", "b"]),
        ("p.txt", "one\u2028line\r\ntwo\n", ["one\u2028line", "two"]),
    ],
)
def test_forms_of_published_lists(
    folder: Path, name: str, content: str, prompts: list[str]
) -> None:
    found = read_prompt_file(written(folder, name, content))
    assert [spec.prompt for spec in found] == prompts


def test_jsonl_entries_are_those_of_json(folder: Path) -> None:
    entries = ["A plain prompt", {"prompt": "Fourth", "modified": "fourth.pt"}]
    lines = "\n".join(map(json.dumps, entries))
    (folder / "p.json").write_text(json.dumps(entries))
    found = read_prompt_file(written(folder, "p.jsonl", lines))
    assert found == read_prompt_file(folder / "p.json")


def test_parquet_columns_of_bytes_and_lists(folder: Path) -> None:
    parquet.write_table(pa.table({"caption": [b"a red kite", "ä".encode()]}), folder / "b.parquet")
    assert [spec.prompt for spec in read_prompt_file(folder / "b.parquet")] == ["a red kite", "ä"]
    parquet.write_table(pa.table({"caption": [["a"], []]}), folder / "l.parquet")
    assert [spec.prompt for spec in read_prompt_file(folder / "l.parquet")] == ["a"]
    for wrong, message in (([["a", "b"]], "row 1: caption is a list of 2"), ([7], "is 7, no text")):
        parquet.write_table(pa.table({"caption": wrong}), folder / "w.parquet")
        with pytest.raises(ValueError, match=message):
            read_prompt_file(folder / "w.parquet")


LAUGHS = "a0: &a0 [lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "- &a0 {k: v}\n" + "".join(
    f"- &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "prompt\na blue kite\na red, kite\n", "line 3 has 2 values for 1 columns"),
        ("p.csv", 'prompt\n"a blue kite\n', "line 2: unexpected end of data"),
        ("p.csv", "caption,Caption,caption\na,b,c\n", "column caption twice"),
        ("p.jsonl", '{"caption": "a"}\n{"caption": \n', "line 2 is no JSON"),
        ("p.jsonl", '{"url": "a"}\n', "has the columns url; name the one"),
        ("p.json", "[" * 100_000, "nested more than 100 levels"),
        ("p.json", "[" * 101 + "]" * 101, "nested more than 100 levels"),
        ("p.json", r'["\ud800"]', "half of a character"),
        ("p.yaml", "[" * 100_000, "is no YAML"),
        ("p.yaml", "- " * 100_000, "is no YAML"),
        ("p.yaml", "[" * 900 + "]" * 900, "nested more than 100 levels"),
        ("p.yaml", LAUGHS, "aliases stand for"),
        ("p.yaml", MERGES, "aliases stand for"),
        ("p.yaml", "- &a [*a]\n", "an alias holds itself"),
        ("p.yaml", '- "\\ud800"\n', "invalid Unicode character"),
    ],
)
def test_files_that_are_wrong_or_would_take_for_ever(
    folder: Path, name: str, content: str, message: str
) -> None:
    path = written(folder, name, content)
    started = time.process_time()
    with pytest.raises(ValueError, match=message):
        read_prompt_file(path)
    assert time.process_time() - started < 1


def test_how_many_prompts_were_read_is_said(folder: Path) -> None:
    said: list[str] = []
    path = written(folder, "p.csv", "caption,overfit_type\na,MV\na,MV\nb,N\nc,n\n,MV\nd,x\n")
    read_prompt_file(path, said.append)
    assert said == [
        f"{path}: 1 prompts; left out: 1 repeated, 2 of the kind 'N', "
        "1 without a caption, 1 of the kind 'X'"
    ]


def test_a_text_is_a_prompt_and_a_path_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    said: list[str] = []
    assert texts_of(None) == []
    assert texts_of("a red kite", said.append) == ["a red kite"]
    assert not said
    assert texts_of("a photo of node.json", said.append) == ["a photo of node.json"]
    assert said == ["There is no file 'a photo of node.json', so this is taken for a prompt."]
    assert texts_of("pictures", said.append) == ["pictures"]
    assert "although there is a folder" in said[1]
    written(folder, "p.txt", "one\ntwo\n")
    assert texts_of("p.txt", said.append) == ["one", "two"]
    assert said[2] == "p.txt: 2 prompts"
    written(folder, "my list.xyz", "one\n")
    for text, message in (
        ("my list.xyz", "of no known kind"),
        ("list.tsv", "there is no prompt file"),
        ("./list", "there is no prompt file"),
        ("pictures/my list.txt", "there is no prompt file"),
        ("./pictures", "is a folder"),
        ("\ud800", "half of a character"),
    ):
        with pytest.raises(ValueError, match=message):
            texts_of(text)
    assert texts_of("x" * 5000) == ["x" * 5000]
