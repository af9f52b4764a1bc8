"""Warnings of RecBole's own calls, which it alone can change."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def recbole_warnings_hidden() -> Iterator[None]:
    """Without those of what pandas and torch will do in another way one day."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
        yield
