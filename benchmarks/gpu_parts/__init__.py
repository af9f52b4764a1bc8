"""The parts of ``benchmarks/gpu.py``, one module each: ``measure(place)`` and ``lines(result)``; see ``child.py``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

LIMITS = {"right": 110, "models": 65, "throughput": 95, "ml1m": 95, "paper": 55, "serving": 45, "steps": 55}
"""Seconds that a part may take when all run, and more where fewer run in the same time; the most telling first."""
