"""Processes for parts, and for jobs of a part, each with a time limit and a file for what it finds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_parts import ROOT
from gpu_parts.files import read

if TYPE_CHECKING:
    from gpu_parts.place import Place  # which imports torch

SCRIPT = ROOT / "benchmarks" / "gpu.py"


class Ended(Enum):
    """How a process ended."""

    BY_ITSELF = 1
    TOO_LATE = 2
    FAILED = 3


SPARE = 2.0
"""Seconds that a process has left when it should be done, before it is ended."""


def command(name: str, result: Path, until: float, *, device: str, tiny: bool, data: Path) -> list[str]:
    """What starts a part, or a job of one: ``PART:JOB``."""
    flags = ["--tiny"] * tiny + ["--cpu"] * (device == "cpu")
    given = ["--child", name, "--result", str(result), "--until", str(until), "--data", str(data)]
    return [sys.executable, "-W", "ignore", str(SCRIPT), *given, *flags]


def ended(environment: dict[str, str], folder: Path, log) -> dict:
    """Options of ``Popen``: a group of its own, which ends together."""
    return {"env": environment, "cwd": folder, "stdout": log, "stderr": log, "start_new_session": True}


def end(process: subprocess.Popen) -> None:
    """End a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)  # one that waits for a GPU may not end at once


def in_parallel(
    place: Place,
    part: str,
    jobs: list[str],
    workers: int,
    *,
    threads: int = 1,
    before: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run jobs of a part, so many at a time, and add what each found as soon as it ends, or its time does.

    Args:
        place: of the part.
        part: its name.
        jobs: their names; what several find under one name is put together.
        workers: how many at a time.
        threads: of each.
        before: a program that runs the command of a job.
        environment: variables beside those that are there.
    """

    variables = os.environ | {"OMP_NUM_THREADS": str(threads), **(environment or {})}

    def run(number: int) -> dict:
        return _job(place, f"{part}:{jobs[number]}", Path(f"job-{number}").absolute(), before, variables)

    with ThreadPoolExecutor(workers) as pool:
        for future in as_completed([pool.submit(run, number) for number in range(len(jobs))]):
            for name, value in future.result().items():
                before_it = place.result.get(name)
                place.note(name, before_it | value if isinstance(before_it, dict) else value)


def _job(place: Place, name: str, folder: Path, before: Sequence[str], environment: dict[str, str]) -> dict:
    """What a process finds in a folder of its own."""
    folder.mkdir()
    result = folder / "result.json"
    where = {"device": place.device.type, "tiny": place.tiny, "data": place.data}
    words = [*before, *command(name, result, place.until - SPARE, **where)]
    try:
        done = subprocess.run(words, cwd=folder, env=environment, timeout=max(place.left(), 0.1), check=False)
        failed = f"status {done.returncode}" if done.returncode else None
    except subprocess.TimeoutExpired:
        failed = "its time ended"
    found = read(result) if result.exists() else {}
    failed, job = found.pop("failed", failed), name.partition(":")[2]
    return found | ({job: found.get(job, {}) | {"failed": failed}} if failed else {})
