"""What of the log a person at the terminal sees: what is meant for people, and warnings; or all of it."""

from __future__ import annotations

import logging
import re
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from logging import getLogger
from logging.handlers import MemoryHandler
from pathlib import Path

from recbole_ssm.system.terminal import Console, complain

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FOR_PEOPLE = "for_people"
"""The attribute of log records that :func:`tell` makes."""
_PACKAGE = Path(__file__).parents[1]
_LIBRARIES = {
    Path(sysconfig.get_path("stdlib")),
    *(Path(folder) for folder in getattr(find_spec("recbole"), "submodule_search_locations", None) or ()),
}
"""Folders of Python, and of RecBole, which may be a checkout."""


def tell(text: str) -> None:
    """Log what a person at the terminal wants to read; see :class:`ForPeople`."""
    getLogger().info(text, extra={_FOR_PEOPLE: True})


class ForPeople(logging.Handler):
    """Prints what is meant for people (:func:`tell`), and warnings in one line each, but not those of libraries.

    Args:
        console: where text goes. Warnings go to standard error.
        least: the lowest level of warnings that are printed.
    """

    def __init__(self, console: Console, least: int):
        super().__init__()
        self._console, self._least = console, least

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, or nothing. If that cannot be done (the terminal is gone), the work goes on without it."""
        with suppress(OSError, UnicodeError):
            if getattr(record, _FOR_PEOPLE, False):
                self._console.tell(record.getMessage())
            elif record.levelno >= self._least and not _of_library(record.pathname):
                complain("warning" if record.levelno < logging.ERROR else "error", record.getMessage())


class OnStandardError(logging.Handler):
    """Prints log lines as they are formatted, above a bar if there is one; without colours where nobody wants them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, if that can be done."""
        with suppress(OSError, UnicodeError):
            line = self.format(record)
            colourless = Console(sys.stderr).color_system is None
            print(_COLOUR.sub("", line) if colourless else line, file=sys.stderr, flush=True)


def _of_library(file: str) -> bool:
    """Whether code is of Python, or of an installed package other than this one."""
    folders = set(Path(file).parents)
    installed = any(folder.name in ("site-packages", "dist-packages") for folder in folders)
    return _PACKAGE not in folders and (installed or not _LIBRARIES.isdisjoint(folders))


@contextmanager
def library_warnings_logged() -> Iterator[None]:
    """Within this context warnings of Python are log records of the place that they warn of."""

    def log(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:
        text = f"{category.__name__}: {message}"
        root = getLogger()
        root.handle(root.makeRecord("py.warnings", logging.WARNING, filename, lineno, text, (), None))

    with warnings.catch_warnings():
        warnings.showwarning = log  # type: ignore[assignment]  # as logging.captureWarnings does, with the place
        yield


@contextmanager
def console_log_held_back(message: str) -> Iterator[Callable[[], None]]:
    """Hold back what is logged from the console within this context. Log files get it at once.

    After an error only warnings are shown above it, and not all that was logged.

    Args:
        message: is told first, and shown at once: what follows may take long.

    Yields:
        A function that shows what was held back, and ends the holding back.
    """
    root = getLogger()
    tell(message)
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
