"""Measures how a package is built: its places, the imports between them, its sizes.

    python tests/house.py [PACKAGE_DIR] [--json] [--edges] [--levels]

prints counts that can be compared between two commits. A *place* is what one has to know to find
something: a module at the root of the package, a room (a folder with modules), or a room inside a
room, such as ``metrics/audit``. The package's ``__init__`` and ``__main__`` are doors: their
imports count, but they are no places to know.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from structure_reading import DOORS, SCOPES, Function, Graph, House, Import, read_house

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "dataunlearn"
VOCABULARY = (
    "process",
    "prediction",
    "timesteps",
    "conditioning",
    "questions",
    "views",
    "rows",
    "gramian",
    "combine",
)
LEVELS: tuple[tuple[str, ...], ...] = (
    ("runtime", "assets", *VOCABULARY),
    ("data", "report", "recognition"),
    ("objectives", "models"),
    ("training", "metrics"),
    ("metrics/audit", "unlearning", "base_models", "attacks"),
    ("prompts", "verification"),
    ("api", "bench", "recipes", "requests"),
    ("cli", "__init__"),
    ("__main__",),
)
LEVEL_OF = {place: level for level, places in enumerate(LEVELS, 1) for place in places}
WIDEST = "+ for types"
MAX_ARGUMENTS, MAX_FUNCTION_LINES, MAX_FILE_LINES = 8, 40, 300
RULES_OF_COUNTING = (
    "imports: each statement counts once for each module it names; pairs count once",
    "arguments: posonlyargs + args + kwonlyargs without self or cls; no *args, no **kwargs",
    "lines of a function: from def to its end, without docstring and decorators",
)


def without_doors(graph: Graph) -> Graph:
    """A graph of places without the package's own ``__init__`` and ``__main__``."""
    return {node: targets - DOORS for node, targets in graph.items() if node not in DOORS}


def components(graph: Graph) -> dict[str, frozenset[str]]:
    """Each node's strongly connected component: the nodes it reaches and is reached from."""
    reached: dict[str, set[str]] = {}
    for node in graph:
        found: set[str] = set()
        waiting = [node]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting += new
        reached[node] = found
    return {
        node: frozenset({node} | {other for other in found if node in reached[other]})
        for node, found in reached.items()
    }


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected components with more than one member."""
    return sorted(sorted(circle) for circle in set(components(graph).values()) if len(circle) > 1)


def levels(graph: Graph) -> dict[str, int]:
    """How many nodes the longest chain of imports from each node has; a circle counts once."""
    circle_of = components(graph)

    @cache
    def level(circle: frozenset[str]) -> int:
        beneath = {circle_of[target] for node in circle for target in graph[node]} - {circle}
        return 1 + max(map(level, beneath), default=0)

    return {node: level(circle) for node, circle in circle_of.items()}


def upward(house: House, scope: str) -> tuple[list[Import], list[Import]]:
    """Imports from a lower level of ``LEVELS`` to a higher one; those with an end on no level."""
    up, unjudged = [], []
    for each in house.between_places(scope):
        source, target = (LEVEL_OF.get(house.place(end)) for end in (each.source, each.target))
        if source is None or target is None:
            unjudged.append(each)
        elif source < target:
            up.append(each)
    return up, unjudged


def module_pairs(imports: Iterable[Import]) -> int:
    """How many distinct pairs of modules some imports join."""
    return len({(each.source, each.target) for each in imports})


def graph_figures(house: House, scope: str) -> dict[str, int]:
    """The figures that depend on which imports are counted."""
    places, modules = house.place_graph(scope), house.module_graph(scope)
    up, unjudged = upward(house, scope)
    circle_of = components(places)
    crossing = house.between_places(scope)
    turning = [i for i in crossing if house.place(i.target) in circle_of[house.place(i.source)]]
    return {
        "imports between places (pairs of modules)": module_pairs(crossing),
        "arrows between places (pairs of places)": sum(map(len, places.values())),
        "levels of places (longest chain, no doors)": max(levels(without_doors(places)).values()),
        "levels of modules (longest chain)": max(levels(modules).values()),
        "circles between places": len(circles(places)),
        "- places on a circle": sum(map(len, circles(places))),
        "- imports between places on one circle": module_pairs(turning),
        "circles between modules": len(circles(modules)),
        "- modules on a circle": sum(map(len, circles(modules))),
        "imports upwards (both ends on a given level)": module_pairs(up),
        "imports not judged (an end on no given level)": module_pairs(unjudged),
    }


def plain_figures(house: House) -> dict[str, int]:
    """The figures that do not depend on which imports are counted."""
    root = {file for file in house.files.values() if "/" not in file}
    places, rooms = house.places(), house.rooms()
    inside = [each for each in house.own if each.kind == "function"]
    outside = [each for each in house.outside if each.kind == "function"]
    return {
        "modules (every .py file)": len(house.files),
        "lines of all modules": sum(house.lengths.values()),
        ".py files at the root": len(root),
        "modules at the root (those without __init__ and __main__)": len(places - rooms),
        "rooms (folders with .py files, at any depth)": len(rooms),
        "places to know (modules at the root + rooms)": len(places),
        "imports of our own for types": sum(each.kind == "types" for each in house.own),
        "imports of our own inside functions": len(inside),
        "imports of outside packages inside functions": len(outside),
        f"functions with more than {MAX_ARGUMENTS} arguments": len(many_arguments(house)),
        f"functions over {MAX_FUNCTION_LINES} lines": len(long_functions(house)),
        f"files over {MAX_FILE_LINES} lines": len(long_files(house)),
        "lines of the longest file": max(house.lengths.values()),
    }


def many_arguments(house: House) -> list[Function]:
    """The functions with too many arguments, largest first."""
    found = (each for each in house.functions if each.arguments > MAX_ARGUMENTS)
    return sorted(found, key=lambda each: -each.arguments)


def long_functions(house: House) -> list[Function]:
    """The functions with too many lines, longest first."""
    found = (each for each in house.functions if each.lines > MAX_FUNCTION_LINES)
    return sorted(found, key=lambda each: -each.lines)


def long_files(house: House) -> dict[str, int]:
    """The files with too many lines, longest first."""
    by_length = sorted(house.lengths.items(), key=lambda item: -item[1])
    return {file: lines for file, lines in by_length if lines > MAX_FILE_LINES}


def names(house: House) -> dict[str, list[str]]:
    """What stands behind the counts, by name."""
    outside = Counter(each.target for each in house.outside if each.kind == "function")
    longest = max(house.lengths, key=house.lengths.__getitem__)
    return {
        "longest file": [longest],
        "files too long": [f"{file} ({lines})" for file, lines in long_files(house).items()],
        "functions with too many arguments": [
            f"{each.file}: {each.name} ({each.arguments})" for each in many_arguments(house)
        ],
        "functions too long": [
            f"{each.file}: {each.name} ({each.lines})" for each in long_functions(house)
        ],
        "outside packages inside functions": [f"{p} {n}" for p, n in outside.most_common()],
        "our own modules inside functions": [
            f"{each.file}:{each.line} -> {each.target}"
            for each in house.own
            if each.kind == "function"
        ],
        "imports upwards": [
            f"{each.file}:{each.line} -> {each.target}" for each in upward(house, WIDEST)[0]
        ],
        "circles between places": [", ".join(c) for c in circles(house.place_graph(WIDEST))],
        "circles between modules, at load": [
            ", ".join(c) for c in circles(house.module_graph("at load"))
        ],
        "circles between modules": [", ".join(c) for c in circles(house.module_graph(WIDEST))],
    }


def figures(house: House) -> dict[str, Any]:
    """All figures and the names behind them."""
    return {
        "figures": plain_figures(house),
        "figures by scope": {scope: graph_figures(house, scope) for scope in SCOPES},
        "names": names(house),
    }


def table(found: dict[str, Any]) -> str:
    """The figures as text: one a line, those that depend on the scope in three columns."""
    lines = [f"{name:<60}{value:>8}" for name, value in found["figures"].items()]
    lines += ["", " " * 60 + "".join(f"{scope:>16}" for scope in SCOPES)]
    for name in found["figures by scope"][WIDEST]:
        values = (found["figures by scope"][scope][name] for scope in SCOPES)
        lines.append(f"{name:<60}" + "".join(f"{value:>16}" for value in values))
    for name, entries in found["names"].items():
        lines += ["", f"{name}:", *(f"    {entry}" for entry in entries or ["none"])]
    return "\n".join([*lines, "", *RULES_OF_COUNTING])


def edges(house: House) -> str:
    """Every arrow between places, with the imports that make it."""
    found = defaultdict(list)
    for each in house.between_places(WIDEST):
        when = "" if each.kind == "load" else f" ({each.kind})"
        arrow = (house.place(each.source), house.place(each.target))
        found[arrow].append(f"    {each.file}:{each.line} -> {each.target}{when}")
    heads = {arrow: f"{arrow[0]} -> {arrow[1]} ({len(found[arrow])})" for arrow in sorted(found)}
    return "\n".join("\n".join([head, *found[arrow]]) for arrow, head in heads.items())


def level_lists(house: House) -> str:
    """Which place lies on which level, lowest first; the given level in brackets."""
    found = defaultdict(list)
    for place, level in levels(without_doors(house.place_graph(WIDEST))).items():
        found[level].append(f"{place} [{LEVEL_OF.get(place, '-')}]")
    return "\n".join(f"{level:>3}  {', '.join(sorted(found[level]))}" for level in sorted(found))


def main() -> None:
    """Print the figures of a package."""
    parser = argparse.ArgumentParser(description="Measure how a package is built.")
    parser.add_argument("folder", nargs="?", type=Path, default=PACKAGE, help="PACKAGE_DIR")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    parser.add_argument("--edges", action="store_true", help="arrows between places, with imports")
    parser.add_argument("--levels", action="store_true", help="which place lies on which level")
    chosen = parser.parse_args()
    house = read_house(chosen.folder.resolve())
    parts = [edges(house)] if chosen.edges else []
    parts += [level_lists(house)] if chosen.levels else []
    parts += [json.dumps(figures(house), indent=1)] if chosen.json else []
    sys.stdout.write("\n\n".join(parts or [table(figures(house))]) + "\n")


if __name__ == "__main__":
    main()
