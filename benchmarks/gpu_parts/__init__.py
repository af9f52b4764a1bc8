"""The parts of ``benchmarks/gpu.py``, one module each: ``measure(place)`` and ``lines(result)``; see ``child.py``."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

LIMITS = {
    **{"right": 70, "models": 75, "ml1m": 70, "throughput": 70, "paper": 55},
    **{"steps": 40, "serving": 30, "mixers": 30, "sanitizer": 25, "peers": 40},
}
"""Parts, the most telling first, and how the time is shared out; what one leaves goes to those after it."""
