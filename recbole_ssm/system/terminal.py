"""What a user sees in the terminal: text that cannot control it, log lines in a useful order, no warnings of RecBole's.

The text may hold names that others have chosen: of items, users, files.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler

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
        """Print a line as it is, but :func:`printable`."""
        self.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError, where rich's own version exits."""
        raise BrokenPipeError


@contextmanager
def console_log_held_back(message: str) -> Iterator[Callable[[], None]]:
    """Hold back what is logged from the console within this context. Log files get it at once.

    After an error only warnings are shown above it, and not all that was logged.

    Args:
        message: is logged first, and shown at once: what follows may take long.

    Yields:
        A function that shows what was held back, and ends the holding back.
    """
    root = logging.getLogger()
    root.info(message)
    handlers = root.handlers
    held = [_holding(each) for each in handlers if not isinstance(each, logging.FileHandler)]
    root.handlers = [*(each for each in handlers if isinstance(each, logging.FileHandler)), *held]

    def release() -> None:
        root.handlers = handlers
        for each in held:
            each.close()  # which hands its records on

    try:
        yield release
    except BaseException:
        for each in held:
            each.buffer = [record for record in each.buffer if record.levelno >= logging.WARNING]
        raise
    finally:
        release()


def _holding(handler: logging.Handler) -> MemoryHandler:
    held = MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, target=handler)
    held.setLevel(handler.level)
    return held


@contextmanager
def recbole_warnings_hidden() -> Iterator[None]:
    """Hide within this context the FutureWarnings that RecBole's own calls cause, which only RecBole can mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
        yield
