"""Recommendations of two copies of the same weights, which differ by rounding: a product depends on where they lie."""

from collections.abc import Sequence
from typing import Any

import pytest


def near(found: Sequence[Sequence[tuple[str, float]]]) -> list[list[tuple[str, Any]]]:
    """What equals recommendations with these names, and with scores that are nearly these."""
    return [[(name, pytest.approx(score, rel=1e-4, abs=1e-5)) for name, score in row] for row in found]
