"""What a run tells the console before its errors, and what after them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler


@contextmanager
def held_back(meanwhile: str) -> Iterator[Callable[[], None]]:
    """What is logged goes to files at once, and to the console when the function is called that this gives.

    If an error comes before that, only warnings stand above it, and not all that was logged.

    Args:
        meanwhile: what the console is told at once, for it may take long.
    """
    root = logging.getLogger()
    root.info(meanwhile)
    handlers = root.handlers
    held = [_holding(each) for each in handlers if not isinstance(each, logging.FileHandler)]
    root.handlers = [each for each in handlers if isinstance(each, logging.FileHandler)] + held

    def tell() -> None:
        root.handlers = handlers
        for each in held:
            each.close()  # and so hand over what it holds

    try:
        yield tell
    except BaseException:
        for each in held:
            each.buffer = [record for record in each.buffer if record.levelno >= logging.WARNING]
        raise
    finally:
        tell()


def _holding(handler: logging.Handler) -> MemoryHandler:
    held = MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, target=handler)
    held.setLevel(handler.level)
    return held
