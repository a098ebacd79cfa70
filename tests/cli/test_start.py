"""What the command's help and the package's import may load: nothing that takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dataunlearn.cli.main import VERBS

SECONDS_TO_IMPORT = {
    "accelerate",
    "datasets",
    "diffusers",
    "jinja2",
    "matplotlib",
    "scipy",
    "sklearn",
    "torchdiffeq",
    "torchmetrics",
    "transformers",
}

COMMAND = """
from dataunlearn.cli.main import main
try:
    main()
except SystemExit:
    pass
"""


def said_and_loaded(program: str, *arguments: str) -> tuple[str, set[str]]:
    """What a program prints in a process of its own, and the packages that it has then loaded."""
    ending = "\nimport sys\nprint()\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program + ending, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    said, _, modules = done.stdout.rstrip().rpartition("\n")
    return said + done.stderr, {module.partition(".")[0] for module in modules.split()}


def test_the_package_loads_nothing_heavy() -> None:
    _, loaded = said_and_loaded("import dataunlearn")
    assert "dataunlearn" in loaded
    assert not loaded & {"torch", "numpy", *SECONDS_TO_IMPORT}


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--help"], "Unlearn a T-shirt from a small MNIST model"),
        ([], '"verb"'),
        (["unlern"], "unlearn-prompts"),
        (["--unknown"], "no option --unknown"),
    ],
)
def test_the_commands_own_help_loads_nothing_heavy(arguments: list[str], answer: str) -> None:
    said, loaded = said_and_loaded(COMMAND, *arguments)
    assert answer in said
    assert not loaded & {"torch", "numpy", *SECONDS_TO_IMPORT}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_loads_torch_at_most(verb: str) -> None:
    said, loaded = said_and_loaded(COMMAND, verb, "--help")
    assert f"usage: dataunlearn {verb}" in said
    assert not loaded & SECONDS_TO_IMPORT
