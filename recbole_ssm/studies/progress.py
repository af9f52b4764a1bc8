"""How far a training is: its trainer tells it, a file hands it to another process, and a terminal shows a bar."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from recbole_ssm.system.atomic_write import atomic_write

SECONDS = 0.5
"""Between two looks."""


def to_file(file: Path) -> Callable[[float, str], None]:
    """What a trainer tells, kept in a file for :func:`from_file`, not more often than it is looked at."""
    last = 0.0

    def tell(share: float, words: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            with suppress(OSError), atomic_write(file, sync=False) as content:  # a training can do without a bar
                content.write(json.dumps([share, words]).encode())

    return tell


def from_file(file: Path) -> tuple[float, str]:
    """Share and words of a training that has just told them; nothing done before it has."""
    try:
        share, words = json.loads(file.read_text())
        return share, words
    except (OSError, ValueError):
        return 0.0, "beginning"


@contextmanager
def bar(console: Console, look: Callable[[], tuple[float, str]]) -> Iterator[None]:
    """As long as the context lasts a bar with the time left, if the output is a terminal; else nothing.

    Args:
        console: where.
        look: the share that is done, and words that go before the bar.
    """
    if not console.is_terminal:
        yield
        return
    left = TextColumn("at most"), TimeRemainingColumn(), TextColumn("left")
    columns = TextColumn("{task.description}", markup=False), BarColumn(20), TaskProgressColumn(), *left
    done = threading.Event()
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        task = progress.add_task("", total=1.0)

        def follow() -> None:
            while not done.wait(SECONDS):
                share, words = look()
                progress.update(task, completed=share, description=words)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
