"""The rooms of the package: imports go downwards only, and nothing private crosses a wall."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "recbole_ssm"
FLOORS = (
    {"cli"},
    {"studies"},
    {"serving", "training"},
    {"checkpoints"},
    {"data"},
    {"config"},
    {"model"},
    {"layers"},
    {"ops"},
    {"system"},
    {"errors"},
)
"""From the top down; what stands at the root (the package's face, ``__main__``) is above them all."""

FLOOR = {room: number for number, rooms in enumerate(reversed(FLOORS), 1) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import of this package in a file, at its top or in a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "recbole_ssm":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "recbole_ssm")


def room_of(module: str, name: str = "") -> str:
    """The room that ``from module import name`` reaches into; empty for the package's face."""
    parts = module.split(".")[1:]
    return parts[0] if parts else name if name in FLOOR else ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_downwards(file):
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    floor = FLOOR.get(own, len(FLOORS) + 1)
    for module, name in imports(file):
        room = room_of(module, name)
        if room == own:
            continue
        where = f"{file.relative_to(PACKAGE)} imports {module}.{name}"
        assert room or name == "__version__", f"{where} from the package's face"
        assert FLOOR.get(room, 0) < floor, f"{where}, from {own} up to {room}"
        assert not name.startswith("_") or name == "__version__", f"{where}, which is private to {room}"


def test_little_stands_at_the_root():
    assert {file.name for file in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py", "errors.py"}
