"""What a run measures, as JSON lines beside RecBole's log, for programs to read while it goes on.

A run can do without its logs. Where one cannot be written to any more, that is told once, and the run goes on.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_ssm.system.distributed import rank

_current: _Lines | None = None


@contextmanager
def beside(handlers: Iterable[logging.Handler]) -> Iterator[None]:
    """Within this context lines go to ``NAME.jsonl``, where one of the handlers writes ``NAME.log``; else nowhere."""
    global _current
    logs = [handler for handler in handlers if isinstance(handler, logging.FileHandler)]
    for log in logs:
        _make_dispensable(log)
    before, _current = _current, next((_Lines(Path(log.baseFilename).with_suffix(".jsonl")) for log in logs), None)
    hook, threading.excepthook = threading.excepthook, _without_writers(threading.excepthook)
    try:
        yield
    finally:
        _current, threading.excepthook = before, hook


def file() -> Path | None:
    """Where lines go."""
    return None if _current is None else _current.file


def write(record: dict) -> None:
    """Append a line: of an epoch's training or validation, or of the test."""
    if _current is not None and rank() == 0:
        _current.write(record)


class _Dispensable:
    """What a run can do without."""

    def __init__(self, file: str | Path):
        self.file, self.failed = Path(file), False

    def fail(self, error: OSError) -> None:
        """Tell of the first error."""
        if not self.failed:
            self.failed = True
            logging.getLogger().warning(f"{self.file} cannot be written to ({error}); the run goes on without it")


class _Lines(_Dispensable):
    def write(self, record: dict) -> None:
        if self.failed:  # perhaps in the midst of a line
            return
        try:
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(record) + "\n")
        except OSError as error:
            self.fail(error)


class TensorBoard(_Dispensable):
    """RecBole's writer of TensorBoard's files."""

    def __init__(self, writer):
        super().__init__(writer.log_dir)
        self._writer = writer

    def __getattr__(self, name: str):
        def tried(*args, **kwargs):
            try:
                return getattr(self._writer, name)(*args, **kwargs)
            except OSError as error:
                return self.fail(error)

        return tried


def _make_dispensable(log: logging.FileHandler) -> None:
    """Python prints a traceback for each line that cannot be written."""
    dispensable, otherwise = _Dispensable(log.baseFilename), log.handleError

    def handle(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        dispensable.fail(error) if isinstance(error, OSError) else otherwise(record)

    log.handleError = handle  # type: ignore[method-assign]  # of this handler only


def _without_writers(hook):
    """A ``threading.excepthook`` that is silent of TensorBoard's thread, whose error comes up in the writer, too."""

    def handle(args) -> None:
        if not (issubclass(args.exc_type, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            hook(args)

    return handle
