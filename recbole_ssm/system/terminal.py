"""Text in the terminal that cannot control it.

The text may hold names that others have chosen: of items, users, files.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console as RichConsole

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters except line breaks and tabs, and characters that change the direction of a text."""
_COLOUR = re.compile(r"(\x1b\[(?:[01];3[0-7]|0)m)")
"""As RecBole's ``set_color`` puts them around words."""


def printable(text: object) -> str:
    r"""A text whose control characters are written out, such as ``\x1b``; line breaks and tabs stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


class PrintableLog(logging.Filter):
    """A filter for log handlers: it makes lines :func:`printable`, and keeps RecBole's colours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the message of a record, and let it pass."""
        try:
            text = record.getMessage()
        except (KeyError, TypeError, ValueError):  # wrong arguments, which logging itself reports
            return True
        parts = _COLOUR.split(text)
        parts[::2] = map(printable, parts[::2])
        record.msg, record.args = "".join(parts), ()
        return True


@contextmanager
def printable_warnings() -> Iterator[None]:
    """Within this context warnings are printable also where no log is set up and Python prints them itself."""
    handler, only_printable = logging.lastResort, PrintableLog()
    if handler is not None:
        handler.addFilter(only_printable)
    try:
        yield
    finally:
        if handler is not None:
            handler.removeFilter(only_printable)


class Console(RichConsole):
    """rich's Console; where the reader has closed the pipe it raises BrokenPipeError, as ``print`` does.

    What is no terminal gets plain lines, also in a notebook, and where ``FORCE_COLOR`` is set.

    Args:
        file: what is written to; None for standard output.
        **how: see ``rich.console.Console``.
    """

    def __init__(self, file: IO[str] | None = None, **how: Any):
        on_terminal = (sys.stdout if file is None else file).isatty()
        super().__init__(file=file, force_jupyter=False, **{"force_terminal": on_terminal, **how})

    def tell(self, line: str) -> None:
        """Print a line as it is, but :func:`printable`, and with escapes for what the locale cannot show."""
        shown = printable(line).encode(self.encoding, "backslashreplace").decode(self.encoding)
        self.print(shown, markup=False, highlight=False, soft_wrap=True)

    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor as it is: one that a bar hides stays hidden if the process is killed."""
        return False

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, where rich's own version exits."""
        raise BrokenPipeError


_MARKS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m"}


def complain(kind: str, text: object) -> None:
    """Print an error or a warning to standard error, in one line if the text has one.

    Args:
        kind: ``error`` or ``warning``; it stands before the text, in a colour if the terminal takes any.
        text: is made :func:`printable`.
    """
    coloured = Console(sys.stderr).color_system is not None
    name = f"{_MARKS[kind]}{kind}:\x1b[0m" if coloured else f"{kind}:"
    print(name, printable(text), file=sys.stderr, flush=True)
