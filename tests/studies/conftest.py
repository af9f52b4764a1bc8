"""Runs of studies in the test's own process, which takes less time."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from functools import partial

import pytest

from recbole_ssm.studies.compare import worker
from recbole_ssm.studies.worker import last_line


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
