"""Histories that grow item by item, for a service that recommends after each click."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.ops.added import Added, AddedWhere
from recbole_ssm.serving.choice import Items
from recbole_ssm.serving.names import read_history

if TYPE_CHECKING:
    from recbole_ssm.serving.ranker import Ranker


class Session:
    """A history that grows by one item at a time.

    A model that keeps a state (Mamba4Rec, 2Mamba4Rec, LRURec, MamRec, without ``MAX_ITEM_LIST_LENGTH``) reads each
    item once, in a time that does not depend on how many came before. The others read their whole history again.

    Args:
        recommender: the model.
        history: names of items to begin with.
        columns: for each of the recommender's ``columns``, its values: one for each item of the history.

    Attributes:
        history: the names so far.
        columns: the values so far.
    """

    def __init__(
        self,
        recommender: Ranker,
        history: Iterable[str] = (),
        columns: Mapping[str, Sequence[float]] | None = None,
    ):
        self._recommender = recommender
        self._streams = recommender.model.streams and not recommender._longest
        self._memory: Any = None
        """What it keeps on the device, by :class:`recbole_ssm.serving.stepping.Stepper`; None before the first item."""
        names = read_history(history)
        numbers = recommender.names.numbers(names)
        if columns is None and not names:
            columns = {name: [] for name in recommender.columns}
        values = recommender._values([names], _of_one(columns))
        self.history: list[str] = list(names)
        self.columns: dict[str, list[float]] = {name: each for name, (each,) in values.items()}
        if self._streams and numbers:
            self._begin(numbers, values)

    def _begin(self, numbers: list[int], values: dict[str, list[list[float]]]) -> None:
        model, batch = self._recommender.model, self._recommender._batch([numbers], values)
        with self._recommender.computing():
            tokens, borders = model.packed(batch)
            found = model.prefill(tokens, borders, **model.columns_of(batch))
            self._memory = self._recommender._stepper().memory(*found, numbers)

    def __repr__(self) -> str:
        latest = f", the latest {self.history[-1]!r}" if self.history else ""
        return f"Session({self._recommender.name}: {len(self.history):,} items{latest})"

    def __copy__(self) -> Session:
        """A branch: what is added to one is not added to the other. Both share the model."""
        branch = object.__new__(Session)
        branch.__dict__ |= self.__dict__ | {"history": list(self.history)}
        branch.columns = {name: list(values) for name, values in self.columns.items()}
        branch._memory = None if self._memory is None else self._memory.clone()
        return branch

    def add(self, item: str, columns: Mapping[str, float] | None = None) -> None:
        """Add the next item of the history.

        Args:
            item: its name.
            columns: for each of the recommender's ``columns``, its value.

        Raises:
            InputError: the model does not know the item, or ``columns`` do not fit; the history is as before.
        """
        numbers = self._recommender.names.numbers([item])
        values = self._recommender._values([[item]], _of_one(columns, single=True))
        if self._memory is not None:
            with self._recommender.computing():
                read = self._recommender._of_item({name: value for name, ((value,),) in values.items()})
                self._recommender._stepper().read(self._memory, numbers[0], read)
        elif self._streams:
            self._begin(numbers, values)
        self.history.append(item)
        for name, ((value,),) in values.items():
            self.columns[name].append(value)

    def recommend(
        self,
        k: int = 10,
        *,
        candidates: Items | None = None,
        exclude: Items | None = None,
        filter_seen: bool | None = None,
        skip_unknown: bool = False,
    ) -> list[tuple[str, float]]:
        """The names and scores of the best ``k`` items after this history.

        Args:
            k: see :meth:`Recommender.recommend`.
            candidates: names of the items that alone may be recommended, or their numbers; None for all.
            exclude: names or numbers of items that may not be recommended.
            filter_seen: see :meth:`Recommender.recommend`.
            skip_unknown: pass over ``candidates`` and ``exclude`` that the model does not know.

        Returns:
            Names and scores, the best first.

        Raises:
            InputError: see :meth:`Recommender.recommend`.
        """
        recommender = self._recommender
        k, filter_seen = read_count(k), recommender.filters_seen(filter_seen)
        choice = recommender.choice(candidates, exclude, 1, skip_unknown=skip_unknown)
        if self._memory is None:
            columns = {name: [values] for name, values in self.columns.items()}
            return recommender.ranked([self.history], k, choice, filter_seen=filter_seen, columns=columns)[0]
        with recommender.computing():
            k, allowed = min(k, len(recommender.items)), choice.allowed(len(recommender.items))
            return recommender._named(
                *recommender._stepper().rank(self._memory, k, filter_seen=filter_seen, allowed=allowed)
            )

    def representation(self) -> tuple[Tensor, list[int], tuple[Added | AddedWhere, ...]]:
        """What an index of items needs to know of this history; call it within :meth:`Recommender.computing`.

        Returns:
            The model's representation (1, hidden_size), the numbers of the items, and what is added to scores.

        Raises:
            InputError: the history is empty.
        """
        recommender, model = self._recommender, self._recommender.model
        numbers = recommender.names.numbers(self.history)
        if not numbers:
            raise InputError("a history is empty; leave it out: nothing can be recommended for it")
        if self._memory is None:
            batch = recommender._batch([numbers], {name: [values] for name, values in self.columns.items()})
            hidden, added = model.represent(batch)
            return hidden, numbers, added
        kept = recommender._stepper().kept(self._memory)
        return kept.hidden, numbers, model.added_after(kept.seen, kept.latest)


def read_count(k: int) -> int:
    """``k`` as a number; InputError unless it is a whole number of at least 1."""
    try:
        if not isinstance(k, bool) and operator.index(k) > 0:
            return operator.index(k)
    except TypeError:
        pass
    raise InputError(f"k must be a whole number of at least 1, but is {k!r}")


def _of_one(columns: Mapping[str, Any] | None, *, single: bool = False) -> Any:
    """Columns of one history as those of a list of histories; ``single``: of one item."""
    if not isinstance(columns, Mapping):
        return columns
    return {name: [[value] if single else value] for name, value in columns.items()}
