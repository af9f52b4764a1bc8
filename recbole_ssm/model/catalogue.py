"""A stand-in for a dataset, for models that are made without their data."""

from __future__ import annotations


class Catalogue:
    """The part of a dataset that a sequential model reads when it is made: the number of items.

    Args:
        n_items: number of items, with the padding item 0.
    """

    def __init__(self, n_items: int) -> None:
        self.item_num = n_items

    def num(self, field: str) -> int:
        """The number of items, whatever the field."""
        return self.item_num
