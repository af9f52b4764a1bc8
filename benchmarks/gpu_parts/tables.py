"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from recbole_ssm.system.markdown import markdown_table


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a table; columns after the first are numbers. No lines where there are no rows."""
    return markdown_table(heads, [[str(cell) for cell in row] for row in rows], numbers=True) if rows else []


def number(value: object, form: str = ".3g") -> str:
    """A number in words; a dash for what was skipped, and what it says for what failed."""
    if isinstance(value, dict):
        return "–" if "skipped" in value else "failed"
    return "" if value is None else format(value, form) if isinstance(value, int | float) else str(value)


def reasons(result: dict) -> list[str]:
    """Why parts of a result are missing."""
    return [
        f"{name}: {how}: {each[how]}"
        for name, each in result.items()
        if isinstance(each, dict)
        for how in ("failed", "skipped")
        if how in each
    ]


def page(results: dict) -> str:
    """All results of a run: the machine, and what each part found."""
    machine = results["parts"].get("machine", {}).get("machine", {})
    words = ", ".join(f"{name} {value}" for name, value in machine.items() if value)
    text = [f"{results['date']}: {words}" + " (a rehearsal with tiny sizes)" * results["tiny"]]
    for name, result in results["parts"].items():
        if name == "machine":
            continue
        module = import_module(f"gpu_parts.{name}")
        found = {key: value for key, value in result.items() if key not in ("seconds", "failed", "skipped")}
        try:
            body = module.lines(found) if found else []
        except Exception as error:  # of a part that ended too early
            body = [f"no table can be made of what it found: {type(error).__name__}: {error}"]
        text += ["", f"### {(module.__doc__ or name).splitlines()[0]}", ""]
        text += [f"{how}: {result[how]}" for how in ("failed", "skipped") if how in result] + body
        text += [f"({name}, {result.get('seconds', 0):.0f} s)"]
    return "\n".join(text)
