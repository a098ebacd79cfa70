"""Reads a package with ``ast``: its imports and when they run, its functions' sizes.

An import of names that a room's ``__init__`` hands out leads to the room; that loading a module
also runs the ``__init__`` files above it is left out. What is imported by a name in a string is
not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["load", "function", "types"]
Graph = Mapping[str, Set[str]]
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

FOR_TYPES = ("TYPE_CHECKING", "typing.TYPE_CHECKING")
DOORS = frozenset({"__init__", "__main__"})
# Which imports a figure counts: each scope holds the one before.
SCOPES: Mapping[str, frozenset[Kind]] = {
    "at load": frozenset({"load"}),
    "+ in functions": frozenset({"load", "function"}),
    "+ for types": frozenset({"load", "function", "types"}),
}


@dataclass(frozen=True)
class Import:
    """One import: where it stands, what it names, and when it runs."""

    file: str
    line: int
    source: str
    target: str
    kind: Kind


@dataclass(frozen=True)
class Function:
    """A function's sizes.

    ``arguments`` are ``args.posonlyargs``, ``args.args`` and ``args.kwonlyargs`` without a leading
    ``self`` or ``cls``; neither ``*args`` nor ``**kwargs``. ``lines`` are those from ``def`` to
    the end, blank ones too, without the docstring and the decorators.
    """

    file: str
    name: str
    arguments: int
    lines: int


@dataclass(frozen=True)
class House:
    """A package that has been read; files are named relative to its folder."""

    files: Mapping[str, str]  # module -> file
    lengths: Mapping[str, int]  # file -> lines
    own: tuple[Import, ...]
    outside: tuple[Import, ...]
    functions: tuple[Function, ...]

    def place(self, module: str) -> str:
        """The room a module lies in, or its own name if it lies at the root."""
        path = Path(self.files[module])
        return path.stem if path.parent == Path() else path.parent.as_posix()

    def places(self) -> set[str]:
        """Modules at the root and rooms, without the doors."""
        return {self.place(module) for module in self.files} - DOORS

    def rooms(self) -> set[str]:
        """Folders with modules, at any depth, but not the package's own."""
        parents = (Path(file).parent for file in self.files.values())
        return {parent.as_posix() for parent in parents} - {"."}

    def between_places(self, scope: str) -> list[Import]:
        """The imports of a scope whose ends lie in different places."""
        inside = (each for each in self.own if each.kind in SCOPES[scope])
        return [each for each in inside if self.place(each.source) != self.place(each.target)]

    def module_graph(self, scope: str) -> Graph:
        """Which modules each module imports."""
        pairs = ((i.source, i.target) for i in self.own if i.kind in SCOPES[scope])
        return _graph(self.files, pairs)

    def place_graph(self, scope: str) -> Graph:
        """Which places each place imports, doors among them."""
        ends = ((self.place(i.source), self.place(i.target)) for i in self.between_places(scope))
        return _graph({self.place(module) for module in self.files}, ends)


def read_house(folder: Path) -> House:
    """Parse every ``.py`` file under a package's folder."""
    paths = sorted(folder.rglob("*.py"))
    files = {_module_name(path, folder): path.relative_to(folder).as_posix() for path in paths}
    lengths, imports, functions = {}, [], []
    for module, file in files.items():
        text = (folder / file).read_text(encoding="utf-8")
        tree = ast.parse(text, file)
        lengths[file] = len(text.splitlines())
        for node, kind in _import_nodes(tree, "load"):
            targets = dict.fromkeys(_targets(node, module, file, files))
            imports += [Import(file, node.lineno, module, name, kind) for name in targets]
        functions += [Function(file, *sizes) for sizes in _function_sizes(tree, "")]
    own = tuple(each for each in imports if each.target in files)
    outside = tuple(each for each in imports if each.target not in files)
    return House(files, lengths, own, outside, tuple(functions))


def _module_name(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _import_nodes(node: ast.AST, kind: Kind) -> Iterator[tuple[ast.Import | ast.ImportFrom, Kind]]:
    """Every import statement beneath a node, with the time at which it runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, kind
        elif isinstance(child, ast.If) and ast.unparse(child.test) in FOR_TYPES:
            for statement in child.body:
                yield from _import_nodes(ast.Module([statement], []), "types")
            yield from _import_nodes(ast.Module(child.orelse, []), kind)
        elif isinstance(child, FunctionNode) and kind == "load":
            yield from _import_nodes(child, "function")
        else:
            yield from _import_nodes(child, kind)


def _targets(
    node: ast.Import | ast.ImportFrom, module: str, file: str, files: Mapping[str, str]
) -> Iterator[str]:
    """The modules that a statement names: our own by module, outside ones by package."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        above = module.split(".") if file.endswith("__init__.py") else module.split(".")[:-1]
        start = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
        origin = ".".join(filter(None, (start, node.module)))
        names = [f"{origin}.{alias.name}" for alias in node.names]
    for name in names:
        if name.partition(".")[0] != module.partition(".")[0]:
            yield name.partition(".")[0]
            continue
        while name and name not in files:
            name = name.rpartition(".")[0]
        yield name


def _function_sizes(node: ast.AST, prefix: str) -> Iterator[tuple[str, int, int]]:
    """Qualified name, number of arguments and number of lines of every function."""
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, FunctionNode | ast.ClassDef):
            inner = f"{prefix}{child.name}."
        if isinstance(child, FunctionNode):
            yield prefix + child.name, _argument_count(child.args), _line_count(child)
        yield from _function_sizes(child, inner)


def _argument_count(arguments: ast.arguments) -> int:
    positional = arguments.posonlyargs + arguments.args
    bound = bool(positional) and positional[0].arg in ("self", "cls")
    return len(positional) + len(arguments.kwonlyargs) - bound


def _line_count(function: FunctionNode) -> int:
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def _graph(nodes: Iterable[str], pairs: Iterable[tuple[str, str]]) -> Graph:
    graph: dict[str, set[str]] = {node: set() for node in nodes}
    for source, target in pairs:
        if source != target:
            graph[source].add(target)
    return graph
