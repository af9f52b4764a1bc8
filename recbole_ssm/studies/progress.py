"""The progress of a training: the trainer reports it, and a file passes it to the process that shows a bar."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from recbole_ssm.system.atomic_write import atomic_write
from recbole_ssm.system.progress_bar import SECONDS


def to_file(file: Path) -> Callable[[float, str], None]:
    """A function for a trainer to call: it writes the progress for :func:`from_file`, as often as a bar is drawn."""
    last = 0.0

    def tell(share: float, words: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            with suppress(OSError), atomic_write(file, sync=False) as content:  # a training can do without a bar
                content.write(json.dumps([share, words]).encode())

    return tell


def from_file(file: Path) -> tuple[float, str]:
    """The share of a training that is done, and that in words; 0 if the file is missing or damaged."""
    try:
        share, words = json.loads(file.read_text())
        return share, words
    except (OSError, ValueError):
        return 0.0, "beginning"
