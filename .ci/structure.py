"""Reads the package's structure from its source: rooms, imports between them, circles, long functions.

``python .ci/structure.py`` prints the numbers. ``tests/test_rooms.py`` checks the rules.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "recbole_ssm"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (
    {"testing"},
    {"cli"},
    {"studies"},
    {"serving"},
    {"training"},
    {"checkpoints"},
    {"data"},
    {"config"},
    {"model"},
    {"language"},
    {"layers"},
    {"ops"},
    {"system"},
    {"errors"},
)
"""Rooms from the top down. A room imports from lower floors only."""

FLOOR = {room: number for number, rooms in enumerate(reversed(FLOORS), 1) for room in rooms}
TOP = len(FLOORS) + 1
"""The floor of the files at the package's root, which nobody below imports."""


@dataclass(frozen=True)
class Import:
    """One imported name.

    Attributes:
        file: the file that imports.
        module: the module after ``from``, or the imported module.
        name: the imported name; empty for ``import module``.
        for_types: whether it stands under ``if TYPE_CHECKING:``.
    """

    file: Path
    module: str
    name: str
    for_types: bool

    @property
    def room(self) -> str:
        """The room that is imported from; empty for the package's root."""
        parts = self.module.split(".")[1:]
        return parts[0] if parts else self.name if self.name in FLOOR else ""

    @property
    def target(self) -> str:
        """The imported module: a name that is a module itself counts as one."""
        inner = f"{self.module}.{self.name}"
        return inner if inner in MODULES else self.module


def module_name(file: Path) -> str:
    """The dotted name of a file of the package."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file) for file in FILES}


def room_of(file: Path) -> str:
    """The room that a file belongs to; its own name for a file at the root."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports(file: Path) -> tuple[Import, ...]:
    """Each import of this package in a file, at its top or in a function."""
    return tuple(_imports(file, parsed(file), for_types=False))


def _imports(file: Path, node: ast.AST, *, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and _absolute(file, child).split(".")[0] == PACKAGE.name:
            yield from (Import(file, _absolute(file, child), alias.name, for_types) for alias in child.names)
        elif isinstance(child, ast.Import):
            ours = (alias.name for alias in child.names if alias.name.split(".")[0] == PACKAGE.name)
            yield from (Import(file, name, "", for_types) for name in ours)
        else:
            yield from _imports(file, child, for_types=for_types or _is_for_types(child))


def _absolute(file: Path, node: ast.ImportFrom) -> str:
    """The module of ``from ... import``, with leading dots resolved."""
    if not node.level:
        return node.module or ""
    folders = file.relative_to(PACKAGE.parent).parts[: -node.level]
    return ".".join([*folders, *([node.module] if node.module else [])])


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def arrows() -> set[tuple[str, str]]:
    """Pairs of rooms of which the first imports the second."""
    return {
        (room_of(file), each.room) for file in FILES for each in imports(file) if each.room not in ("", room_of(file))
    }


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or through others; imports for types only do not count."""
    graph = {
        module_name(file): {each.target for each in imports(file) if not each.for_types} & MODULES - {module_name(file)}
        for file in FILES
    }
    return [sorted(group) for group in _components(graph) if len(group) > 1]


def _components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components: nodes that reach each other."""
    reached = {node: _reachable(graph, node) for node in graph}
    groups = {frozenset({node} | {other for other in reached[node] if node in reached[other]}) for node in graph}
    return [set(group) for group in groups]


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def functions() -> list[tuple[int, Path, str]]:
    """Lines, file and name of each function, the longest first."""
    found = [
        ((node.end_lineno or node.lineno) - node.lineno + 1, file, node.name)
        for file in FILES
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return sorted(found, key=lambda entry: -entry[0])


def main() -> None:
    """Print the numbers."""
    lines = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    print(
        f"rooms: {len(FLOOR)} on {len(FLOORS)} floors; arrows between them: {len(arrows())}; circles: {len(circles())}"
    )
    print(f"files: {len(FILES)} with {sum(lines.values()):,} lines; at the root: {len(list(PACKAGE.glob('*.py')))}")
    print(
        "longest files:",
        ", ".join(f"{file.relative_to(PACKAGE)} {lines[file]}" for file in sorted(FILES, key=lambda f: -lines[f])[:5]),
    )
    found = functions()
    print(f"functions: {len(found)}, of which over 50 lines: {sum(length > 50 for length, *_ in found)}")
    for length, file, name in found[:10]:
        print(f"  {length} {file.relative_to(PACKAGE)}:{name}")


if __name__ == "__main__":
    main()
