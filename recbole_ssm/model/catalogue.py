"""A stand-in for a dataset, for models that are made without their data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Catalogue:
    """The part of a dataset that a sequential model reads when it is made: the number of items.

    Args:
        n_items: number of items, with the padding item 0.
        kept: what a checkpoint keeps of the model beside its weights, such as texts of items.
    """

    def __init__(self, n_items: int, kept: Mapping[str, Any] | None = None) -> None:
        self.item_num, self.kept = n_items, kept

    def num(self, field: str) -> int:
        """The number of items, whatever the field."""
        return self.item_num
