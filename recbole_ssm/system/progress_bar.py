"""One bar with the time left, for whatever takes long: on a terminal, and in a notebook."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

Look = Callable[[], tuple[float, str]]
"""Gives the share that is done, from 0 to 1, and words that stand before the bar."""

SECONDS = 0.5
"""Between two updates."""

_WINDOW = 3600.0
"""Seconds whose mean speed tells the time left: long enough for an epoch with its validation."""


class _Left(ProgressColumn):
    """The longest time that it can still take, once that can be told."""

    def render(self, task: Task) -> Text:
        if task.finished or task.time_remaining is None:
            return Text("")
        minutes, seconds = divmod(round(task.time_remaining), 60)
        hours, minutes = divmod(minutes, 60)
        time = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return Text(f"at most {time} left")


class _Bar(Progress):
    """rich's, which looks by itself how far the work is."""

    def __init__(self, look: Look, console: Console, **how: Any):
        self._look = look  # first: rich asks at once what there is to show
        cut = Column(no_wrap=True, overflow="crop")  # and no ellipsis, which an ASCII locale cannot show
        words = TextColumn("{task.description}", markup=False, table_column=cut)
        drawn = [BarColumn(20)] if console.width >= 60 else []
        columns = [words, *drawn, TaskProgressColumn(table_column=cut), _Left(table_column=cut)]
        how |= {"refresh_per_second": 1 / SECONDS, "speed_estimate_period": _WINDOW}
        super().__init__(*columns, console=console, **how)
        self.add_task("", total=None)

    def get_renderables(self) -> Iterable[RenderableType]:
        share, words = self._look()
        for task in self.task_ids:
            self.update(task, total=1.0 if share else None, completed=share, description=words)  # first it pulses
        return super().get_renderables()


@contextmanager
def bar(console: Console, look: Look) -> Iterator[None]:
    """Show a bar until the context ends, if the output is a terminal or a notebook; else nothing.

    What is printed meanwhile appears above the bar.

    Args:
        console: the output.
        look: is asked twice a second.

    Yields:
        Nothing.
    """
    if console.quiet:
        yield
    elif console.is_terminal:
        redirected = {"redirect_stdout": sys.stdout.isatty(), "redirect_stderr": sys.stderr.isatty()}
        with _Bar(look, console, transient=True, **redirected):
            yield
    elif _in_notebook():
        with _in_cell(look):
            yield
    else:
        yield


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


@contextmanager
def _in_cell(look: Look) -> Iterator[None]:
    """A bar as one line of text in the output of a notebook's cell, which is written anew."""
    from IPython.display import display

    lines = Console(file=StringIO(), width=80, force_jupyter=False)
    shown, done = _Bar(look, lines, auto_refresh=False), threading.Event()

    def line() -> dict[str, str]:
        with lines.capture() as text:
            lines.print(shown.get_renderable())
        return {"text/plain": text.get().rstrip()}

    handle = display(line(), raw=True, display_id=True)

    def follow() -> None:
        while not done.wait(SECONDS):
            handle.update(line(), raw=True)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        handle.update({"text/plain": ""}, raw=True)
