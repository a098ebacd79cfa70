from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from dataunlearn.process import ForwardProcess
from dataunlearn.rows import Pair

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def code_blocks(name: str) -> list[str]:
    """The Python blocks of a Markdown file."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow_prediction"])
def test_the_documented_objective_works(
    prediction: str,
    make_process: Callable[..., ForwardProcess],
    make_pair: Callable[..., Pair],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documented = ModuleType("documented")
    monkeypatch.setitem(sys.modules, "documented", documented)
    source = code_blocks("docs/adding_an_objective.md")[0]
    exec(compile(source, "documented", "exec"), documented.__dict__)
    objective = documented.MyMethod(grey=0.5)
    objective.check_combination(objective.default_combination)
    process = make_process(prediction)
    rows = objective(process, make_pair(4), torch.Generator())
    assert len(rows) == 8 and rows.num_pairs == 4
    forget = rows.take(torch.arange(4, 8))
    clean = process.clean_estimate(forget.inputs, forget.forget.target, forget.t)
    torch.testing.assert_close(clean, torch.full_like(clean, 0.5), rtol=1e-4, atol=1e-4)


def test_the_readme_example_is_the_shipped_one() -> None:
    (example,) = code_blocks("README.md")
    program = (ROOT / "examples" / "unlearn_from_python.py").read_text()
    body = [line.strip() for line in example.splitlines() if line.strip()]
    missing = [line for line in body if line not in program]
    assert missing == []


def test_links_in_the_docs_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments" / "README.md"]
    pages += (ROOT / "docs").rglob("*.md")
    for page in pages:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_files_that_are_named_exist() -> None:
    """In pages, docstrings and comments; the changelog may name what has been renamed since."""
    kinds = ("*.md", "*.py", "*.yaml", "*.toml")
    folders = ("docs", "src", "tests", "experiments", "benchmarks", "scripts", "data", "models")
    texts = [file for kind in kinds for name in folders for file in (ROOT / name).rglob(kind)]
    texts += [file for kind in kinds for file in ROOT.glob(kind) if file.name != "CHANGELOG.md"]
    path = re.compile(r"(?<![\w/])(?:experiments|benchmarks|scripts)/[\w/]+\.(?:py|yaml|txt)\b")
    lost = {
        f"{text.relative_to(ROOT)}: {name}"
        for text in texts
        for name in path.findall(text.read_text())
        if not (ROOT / name).is_file()
    }
    assert lost == set()


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{p.name}" for p in DOCS.glob("*.md"))]
)
def test_what_the_pages_import_is_there(page: str) -> None:
    for block in code_blocks(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dataunlearn"):
                module = importlib.import_module(str(node.module))
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert not missing, f"{page}: {node.module} has no {missing}"
