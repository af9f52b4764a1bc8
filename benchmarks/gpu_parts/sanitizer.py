"""Whether kernels read or write beyond their tensors: each op once, forward and backward, under compute-sanitizer."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch

from gpu_parts.children import in_parallel
from gpu_parts.place import Place, Skipped
from gpu_parts.right import evaluate
from gpu_parts.streams import long_problems
from gpu_parts.tables import reasons, table
from recbole_ssm.ops import use_backend
from recbole_ssm.ops.backends.triton.backend import TRITON

LOG = "sanitizer.log"

EACH_ITS_OWN = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
"""Else PyTorch cuts tensors out of larger blocks, and what reads beyond one finds the next."""


def measure(place: Place) -> None:
    """Each op in a process of its own under the tool; on a CPU without it."""
    if missing := TRITON.missing():
        raise Skipped(missing)
    jobs = ["+".join(TRITON.kernels)] if place.tiny else list(TRITON.kernels)
    before = [*_tool(), "--log-file", LOG] if place.on_gpu else []
    in_parallel(place, "sanitizer", jobs, 8, before=before, environment=EACH_ITS_OWN)
    for number, op in enumerate(jobs if before else []):
        place.note(op, place.result.get(op, {}) | said(Path(f"job-{number}") / LOG))


def _tool() -> list[str]:
    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if found is None:
        raise Skipped("compute-sanitizer is not installed; it comes with CUDA's toolkit")
    return [found, "--tool", "memcheck", "--target-processes", "application-only"]


def said(log: Path) -> dict:
    """What the tool's log says: the number of errors and the first of them, or why there is none."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line.removeprefix("=========").strip() for line in text.splitlines()]
    first = next((line for line in lines if line and not line.startswith(("COMPUTE-SANITIZER", "ERROR SUMMARY"))), "")
    summary = re.search(r"ERROR SUMMARY: (\d+) error", text)
    if summary is None:
        return {"failed": f"the tool came to no end: {first}"[:300]}
    return {"errors": int(summary[1]), "first": first if int(summary[1]) else ""}


def job(place: Place, names: str) -> None:
    """Some ops, on short streams."""
    for op in names.split("+"):
        place.attempt(op, _problems, place, op)


def _problems(place: Place, op: str) -> dict:
    number = 0
    for problem in long_problems(op, place.device, tiny=True):
        with use_backend(TRITON):
            evaluate(problem, problem.rounded(torch.float32))
        number += 1
    return {"problems": number}


def lines(result: dict) -> list[str]:
    """A row for each op."""
    rows = [[op, each.get("errors", "not looked at"), each.get("first", "")] for op, each in result.items()]
    return [*table(["compute-sanitizer", "errors", "the first"], rows), *reasons(result)]
