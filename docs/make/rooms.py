"""Draws which folders of the package import which, and lists them: ``python docs/make/rooms.py``.

Writes ``docs/images/rooms.svg`` from the imports and, in ``docs/architecture.md``, the lines between the comments
``rooms`` and ``/rooms`` from docstrings. An arrow is left out where a longer way leads from one folder to the other.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from drawing import drawing, line, text

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / ".ci"))
from structure import arrows  # noqa: E402  (the script that also checks the rules)

PAGE = ROOT / "docs" / "architecture.md"
TARGET = ROOT / "docs" / "images" / "rooms.svg"
WIDTH, BOX, ROW, MARGIN = 720, (120, 36), 76, 40
LEFT_OUT = {"errors"}
"""What nearly all import."""


def imports() -> dict[str, set[str]]:
    """Of each folder of the package the others that it imports from."""
    pairs = {pair for pair in arrows() if not LEFT_OUT & set(pair)}
    rooms = sorted({room for pair in pairs for room in pair if room not in ("__init__", "__main__")})
    return {room: {below for above, below in pairs if above == room} for room in rooms}


def reached(room: str, below: dict[str, set[str]]) -> set[str]:
    """All that a folder imports, itself or through others."""
    return below[room] | {far for near in below[room] for far in reached(near, below)}


def floors(below: dict[str, set[str]]) -> list[list[str]]:
    """The folders from the top down: each stands above all that it imports, as low as it can."""

    def height(room: str) -> int:
        return 1 + max(map(height, below[room]), default=0)

    by_height = {room: height(room) for room in below}
    return [[r for r in below if by_height[r] == level] for level in range(max(by_height.values()), 0, -1)]


def sentence(room: str) -> str:
    """The first sentences of a folder's docstring."""
    file = ROOT / "recbole_ssm" / room / "__init__.py"
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split()).replace("``", "`")


def page(now: str) -> str:
    """The page on the architecture with the table as it is today."""
    rooms = [room for level in floors(imports()) for room in level]
    table = "\n".join(["| folder | |", "|---|---|", *(f"| `{room}/` | {sentence(room)} |" for room in rooms)])
    return re.sub(r"(?<=<!-- rooms -->\n).*?(?=<!-- /rooms -->)", lambda _: f"{table}\n", now, flags=re.DOTALL)


def picture() -> str:
    """The drawing, as SVG."""
    below = imports()
    levels = floors(below)
    place = {}
    for row, rooms in enumerate(levels):
        for column, room in enumerate(rooms):
            place[room] = (WIDTH * (column + 1) / (len(rooms) + 1), MARGIN + row * ROW)
    wide, high = BOX
    shapes = [
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="tip" d="M0,0 L8,4 L0,8 z"/></marker></defs>'
    ]
    for room, others in below.items():
        for other in sorted(others):
            if any(other in reached(near, below) for near in others - {other}):
                continue
            (x, y), (u, v) = place[room], place[other]
            if v - y <= ROW:
                points = [(x, y + high / 2), (u, v - high / 2)]
            else:  # around what stands between
                far = WIDTH / 2 + (220 if u > WIDTH / 2 else -220)
                points = [(x, y + high / 2), (far, y + ROW * 0.6), (far, v - ROW * 0.6), (u, v - high / 2)]
            shapes.append(line(points, 'marker-end="url(#tip)"'))
    for room, (x, y) in place.items():
        corner = f'x="{x - wide / 2:g}" y="{y - high / 2:g}" width="{wide}" height="{high}"'
        shapes += [f'<rect class="box" {corner} rx="6"/>', text(x, y + 5, room, "head", "middle")]
    return drawing(WIDTH, 2 * MARGIN + (len(levels) - 1) * ROW, "What each folder of the package imports", shapes)


if __name__ == "__main__":
    TARGET.write_text(picture(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(TARGET, PAGE)
