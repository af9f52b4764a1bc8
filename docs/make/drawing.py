"""SVG as text: the few shapes that the drawings of the documentation need, readable on light and on dark pages."""

from __future__ import annotations

from html import escape

STYLE = """
  :root { color-scheme: light dark; }
  .paper { fill: #fcfcfa; } .box { fill: #f1f1ec; stroke: #a9a9a2; } .line { stroke: #a9a9a2; fill: none; }
  text { font-family: system-ui, sans-serif; font-size: 13px; fill: #1c1f23; } .soft { fill: #5c6065; }
  .head { font-size: 15px; font-weight: 600; } .tip { fill: #a9a9a2; }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #16181b; } .box { fill: #23262b; stroke: #6d727a; }
    .line { stroke: #6d727a; } .tip { fill: #6d727a; }
    text { fill: #e8e8e4; } .soft { fill: #a4a8ae; }
  }"""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Words at a point of their base line."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(points: list[tuple[float, float]], more: str = "") -> str:
    """A line through points."""
    return f'<polyline class="line" points="{" ".join(f"{x:g},{y:g}" for x, y in points)}" {more}/>'


def drawing(width: int, height: int, title: str, shapes: list[str]) -> str:
    """A whole file."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'width="{width}" height="{height}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}\n</style>",
            f'<rect class="paper" width="{width}" height="{height}" rx="8"/>',
            *shapes,
            "</svg>\n",
        ]
    )
