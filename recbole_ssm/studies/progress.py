"""The progress of a training: the trainer reports it, a file passes it to another process, a terminal shows a bar."""

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
"""Between two reports, and between two updates of the bar."""


def to_file(file: Path) -> Callable[[float, str], None]:
    """A function for a trainer to call: it writes the progress for :func:`from_file`, at most twice a second."""
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


@contextmanager
def bar(console: Console, look: Callable[[], tuple[float, str]]) -> Iterator[None]:
    """Show a bar with the time left until the context ends, if the output is a terminal.

    Args:
        console: the output.
        look: returns the share that is done, and words that stand before the bar.

    Yields:
        Nothing.
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
