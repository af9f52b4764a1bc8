"""What a model declares of itself: the keys of the configuration that it reads, and the columns beside the items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from recbole_ssm.errors import InputError


class Configuration(Protocol):
    """The keys and values of a run: RecBole's ``Config``, or a dict."""

    def __getitem__(self, key: str, /) -> Any: ...

    def __contains__(self, key: object, /) -> bool: ...


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a word",
    dict: "a dict",
    list: "a list",
}


@dataclass(frozen=True)
class Key:
    """One key of the configuration. Help, checks and the tables of keys are made from this.

    Attributes:
        name: the key.
        kind: type of its values. A whole number is also a ``float``.
        text: one sentence on what it does.
        default: its value where no file and no argument gives another.
        choices: the values that it may have; empty for any.
        low: the smallest value.
        high: the largest value.
        optional: whether it may also be None.
        example: a value, for the message about a wrong one.
    """

    name: str
    kind: type
    text: str = ""
    default: Any = None
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    optional: bool = False
    example: str = ""

    @property
    def values(self) -> str:
        """The values that it takes, in words."""
        words = _WORDS[self.kind]
        if self.choices:
            words = "one of " + ", ".join(map(str, self.choices))
        elif self.low is not None and self.high is not None:
            words += f" from {self.low} to {self.high}"
        elif self.low is not None:
            words += f", {self.low} or more"
        elif self.high is not None:
            words += f", {self.high} or less"
        words += f", such as {self.example}" if self.example else ""
        return words + (", or None" if self.optional else "")

    def check(self, value: object) -> None:
        """Raise :class:`InputError` unless ``value`` is one that the key takes."""
        if value is None and self.optional:
            return
        if not (self._has_type(value) and self._is_allowed(value)):
            raise InputError(f"{self.name} must be {self.values}, but is {value!r}")

    def _has_type(self, value: object) -> bool:
        if isinstance(value, bool):
            return self.kind is bool
        return isinstance(value, int | float if self.kind is float else self.kind)

    def _is_allowed(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def _as_it_is(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True)
class Column:
    """A number that each interaction has beside its item, and that the model reads.

    ``encode``, ``prefill`` and ``step`` of the model get it as a keyword argument of this name, (T,) or (R,) as the
    items. In a batch its field is the name with ``LIST_SUFFIX``: ``hour_list`` for ``hour``.

    Attributes:
        name: the argument's name.
        source: the column of the ``.inter`` file, or a key of the configuration that names it, such as
            ``TIME_FIELD``; empty for a column of the same name.
        read: what the model gets for the values of the file, (n,) float64: a tensor (n,), value by value.
        when: a key of the configuration; the column is read where its value is true. Empty for always.
    """

    name: str
    source: str = ""
    read: Callable[[Tensor], Tensor] = _as_it_is
    when: str = ""

    def is_read(self, config: Configuration) -> bool:
        """Whether the model reads it, under a configuration."""
        return not self.when or (self.when in config and bool(config[self.when]))

    def field(self, config: Configuration) -> str:
        """The column of the ``.inter`` file, under a configuration."""
        source = self.source or self.name
        if source in config:
            return config[source]
        return source

    def values(self, numbers: Tensor) -> Tensor:
        """What the model gets for some values of the file.

        Args:
            numbers: (n,) float64.

        Returns:
            (n,), what :attr:`read` makes of them.

        Raises:
            InputError: it makes something else of them than one number for each.
        """
        found = self.read(numbers)
        if not isinstance(found, Tensor) or found.shape != numbers.shape:
            given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"read of the column {self.name} must give a tensor {tuple(numbers.shape)}, but gives {given}"
            )
        return found
