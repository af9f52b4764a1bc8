"""What a run measures, as JSON lines beside RecBole's log, for programs to read while the run goes on.

A run does not need its logs. If one cannot be written any more, a warning says so once, and the run goes on.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from recbole_ssm.system.distributed import rank


@contextmanager
def beside(handlers: Iterable[logging.Handler]) -> Iterator[None]:
    """Within this context, lines go to ``NAME.jsonl`` if one of the handlers writes ``NAME.log``; else nowhere."""
    logs = [handler for handler in handlers if isinstance(handler, logging.FileHandler)]
    for log in logs:
        _survive_errors(log)
    before = _current.set(next((_Lines(Path(log.baseFilename).with_suffix(".jsonl")) for log in logs), None))
    hook, threading.excepthook = threading.excepthook, _without_writers(threading.excepthook)
    try:
        yield
    finally:
        threading.excepthook = hook
        _current.reset(before)


def file() -> Path | None:
    """Where lines go."""
    lines = _current.get()
    return None if lines is None else lines.file


def write(record: dict[str, Any]) -> None:
    """Append a line: of an epoch's training or validation, or of the test. Only rank 0 writes."""
    lines = _current.get()
    if lines is not None and rank() == 0:
        lines.write(record)


class _BestEffort:
    """A file that a run does not need."""

    def __init__(self, file: str | Path):
        self.file, self.failed = Path(file), False

    def fail(self, error: OSError) -> None:
        """Warn of the first error."""
        if not self.failed:
            self.failed = True
            logging.getLogger().warning(f"{self.file} cannot be written to ({error}); the run goes on without it")


class _Lines(_BestEffort):
    def write(self, record: dict[str, Any]) -> None:
        if self.failed:  # perhaps in the middle of a line
            return
        try:
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(record) + "\n")
        except OSError as error:
            self.fail(error)


_current: ContextVar[_Lines | None] = ContextVar("current", default=None)


class TensorBoard(_BestEffort):
    """RecBole's writer of TensorBoard's files, which may fail."""

    def __init__(self, writer: Any):
        super().__init__(writer.log_dir)
        self._writer = writer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def tried(*args: Any, **kwargs: Any) -> Any:
            try:
                return getattr(self._writer, name)(*args, **kwargs)
            except OSError as error:
                return self.fail(error)

        return tried


def _survive_errors(log: logging.FileHandler) -> None:
    """Warn once, where Python would print a traceback for each line that cannot be written."""
    best_effort, otherwise = _BestEffort(log.baseFilename), log.handleError

    def handle(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        best_effort.fail(error) if isinstance(error, OSError) else otherwise(record)

    log.handleError = handle  # type: ignore[method-assign]  # of this handler only


def _without_writers(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A ``threading.excepthook`` that ignores TensorBoard's thread, since its error also reaches the writer."""

    def handle(args: Any) -> None:
        if not (issubclass(args.exc_type, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            hook(args)

    return handle
