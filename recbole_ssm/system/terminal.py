"""Text in the terminal that cannot control it.

The text may hold names that others have chosen: of items, users, files.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

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
    """rich's Console; where the reader has closed the pipe it raises BrokenPipeError, as ``print`` does."""

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
