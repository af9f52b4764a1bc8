"""The parts of ``benchmarks/gpu.py``, one module each: ``measure(place)`` and ``lines(result)``; see ``child.py``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

LIMITS = {"right": 120, "models": 70, "throughput": 100, "ml1m": 80, "paper": 60, "serving": 45, "steps": 55}
"""Seconds that a part may take, when all of them are to end within nine minutes."""
