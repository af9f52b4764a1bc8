"""What a run measures, as JSON lines beside RecBole's log, for programs to read while it goes on."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from recbole_ssm.processes import rank

_current: Path | None = None


@contextmanager
def beside(handlers: Iterable[logging.Handler]) -> Iterator[None]:
    """Within this context lines go to ``NAME.jsonl``, where one of the handlers writes ``NAME.log``; else nowhere."""
    global _current
    logs = (handler.baseFilename for handler in handlers if isinstance(handler, logging.FileHandler))
    before, _current = _current, next((Path(log).with_suffix(".jsonl") for log in logs), None)
    try:
        yield
    finally:
        _current = before


def file() -> Path | None:
    """Where lines go."""
    return _current


def write(record: dict) -> None:
    """Append a line: of an epoch's training or validation, or of the test."""
    if _current is not None and rank() == 0:
        with _current.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")
