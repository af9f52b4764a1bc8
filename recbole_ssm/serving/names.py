"""Names of items, and their numbers in a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from recbole_ssm.errors import InputError

_SHOWN = 80
"""The most characters of a value in a message."""


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
            raise InputError(f"{what} is a list of names of items, and not {shortened(names)}")
        found = []
        for name in names:
            if not isinstance(name, str):
                word = whole_number(name) or str(name)
                raise InputError(f"names of items are words, such as {word!r}, and not {_kind(name)}s")
            if name in self._number:
                found.append(self._number[name])
            elif not skip_unknown:
                raise InputError(
                    f"the model knows no item {name!r}; it was not in the data of the training, or was too rare there"
                )
        return found


def read_list(given: Any) -> list[Any]:
    """Histories, or users, as a list; InputError for anything that cannot be one."""
    if isinstance(given, str | Mapping | pd.DataFrame) or not isinstance(given, Iterable):
        raise InputError(f"histories are a list of lists of names of items, and not {shortened(given)}")
    return list(given)


def read_history(names: Any) -> Sequence[str]:
    """The items of a history in their order; InputError for what is no list of names, or has no order."""
    if isinstance(names, str | Mapping | Set) or not isinstance(names, Iterable):
        raise InputError(f"a history is a list of names of items, and not {shortened(names)}")
    return names if isinstance(names, list | tuple) else list(names)


def whole_number(value: object) -> str | None:
    """A whole number as the name that an import gives it, 7 for 7.0; None for anything else."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    return str(int(value)) if isinstance(value, float | np.floating) and float(value).is_integer() else None


def shortened(value: object) -> str:
    """What a message says of a value: its beginning, and for large ones such as tables their kind."""
    text = repr(value)
    return text if len(text) <= _SHOWN and "\n" not in text else f"a {_kind(value)}"


def _kind(name: Any) -> str:
    return type(name).__name__
