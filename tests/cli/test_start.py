"""What the command's help and the package's import may load: nothing that takes seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

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


@pytest.mark.parametrize("seconds", [0.15, 0.6, 2.0])
def test_ctrl_c_while_libraries_are_imported_is_no_traceback(seconds: float) -> None:
    """``begun`` is printed by the command's own first line: Python itself has started by then."""
    begin = "from dataunlearn.__main__ import main\nprint('begun', flush=True)\nmain()"
    arguments = ["sample", "--model", "none", "--out", "none.png"]
    command = [sys.executable, "-c", begin, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert b"Traceback" not in said
    assert process.returncode == 130
    assert b"Interrupted" in said
