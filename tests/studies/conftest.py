"""What makes studies quick: their runs are done in the test's own process, and few of their figures are painted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import pytest

from recbole_ssm.studies.compare import worker
from recbole_ssm.studies.report import Figure
from recbole_ssm.studies.worker import last_line


def put_together(figure: Figure, folder: Path) -> str:
    """What ``Figure.write`` does, but for the painting, which is most of the time of a report."""
    figure._drawn()
    for kind in ("svg", "pdf"):
        (folder / f"{figure.name}.{kind}").touch()
    return "<svg></svg>\n"  # with the end of line of a painted one


@pytest.fixture(autouse=True)
def unpainted(request, monkeypatch) -> Callable[[], None]:
    """Figures are not painted, but in a test that asks for ``painted``; there from when this is called."""
    change = partial(monkeypatch.setattr, Figure, "write", put_together)
    if "painted" not in request.fixturenames:
        change()
    return change


@pytest.fixture
def painted() -> None:
    """The figures of this test are painted."""


@pytest.fixture
def runs_here(monkeypatch):
    """Runs of ``compare`` are done in this process, which has imported what they need; their latency is tried less."""

    def start(words, *, log):
        with log.open("a") as output, redirect_stdout(output), redirect_stderr(output):
            status = worker.main(words[-1], "0")
        return None if status == 0 else last_line(log)

    monkeypatch.setattr("recbole_ssm.studies.compare.study.start", start)
    monkeypatch.setattr(worker, "end_with_parent", lambda parent: None)
    for name in ("latency", "step_latency"):
        monkeypatch.setattr(worker, name, partial(getattr(worker, name), most=20))
