"""The terminal: words of others, of which it obeys some characters instead of showing them, and tables."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole

_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters but line breaks and tabs, and those that turn the direction of a text."""
_COLOUR = re.compile(r"(\x1b\[(?:[01];3[0-7]|0)m)")
"""As RecBole's ``set_color`` puts them around words."""


def printable(text: object) -> str:
    r"""A text in which what a terminal would obey is written out, such as ``\x1b``; line breaks and tabs stay."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


class PrintableLog(logging.Filter):
    """For the handlers of a log: its lines are :func:`printable`, and keep RecBole's colours."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except (KeyError, TypeError, ValueError):  # arguments that do not fit, of which logging itself tells
            return True
        parts = _COLOUR.split(text)
        parts[::2] = map(printable, parts[::2])
        record.msg, record.args = "".join(parts), ()
        return True


@contextmanager
def printable_warnings() -> Iterator[None]:
    """Within this context warnings are printable where nobody has set up a log: Python then prints them itself."""
    handler, only_printable = logging.lastResort, PrintableLog()
    if handler is not None:
        handler.addFilter(only_printable)
    try:
        yield
    finally:
        if handler is not None:
            handler.removeFilter(only_printable)


class Console(RichConsole):
    """rich's; but where who reads has enough, that is an error as of any ``print``, and the caller's to answer."""

    def tell(self, line: str) -> None:
        """Print a line as it is, but for what a terminal would obey."""
        self.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
