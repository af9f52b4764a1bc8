"""Names of items, and their numbers in a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from recbole_ssm.errors import InputError


class ItemNames:
    """The names of a model's items.

    Args:
        names: of each item by its number; number 0 is the padding, and no item.
    """

    def __init__(self, names: Sequence[str]):
        self._number = {name: number for number, name in enumerate(names) if number > 0}

    def __contains__(self, item: object) -> bool:
        """Whether there is an item of this name."""
        return item in self._number

    def number(self, name: str) -> int | None:
        """The number of an item; None for one that is not known."""
        return self._number.get(name)

    def numbers(self, names: Iterable[str], *, skip_unknown: bool = False, what: str = "a history") -> list[int]:
        """The numbers of items.

        Args:
            names: of the items.
            skip_unknown: pass over names that are not known.
            what: what the names are, for errors.

        Returns:
            The number of each known name, in the same order.

        Raises:
            InputError: there are no names, one is no word, or it is not known.
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise InputError(f"{what} is a list of names of items, and not {names!r}")
        found = []
        for name in names:
            if not isinstance(name, str):
                raise InputError(f"names of items are words, such as {str(name)!r}, and not {_kind(name)}s")
            if name in self._number:
                found.append(self._number[name])
            elif not skip_unknown:
                raise InputError(
                    f"the model knows no item {name!r}; it was not in the data of the training, or was too rare there"
                )
        return found


def _kind(name: Any) -> str:
    return type(name).__name__
