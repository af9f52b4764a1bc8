"""Histories that grow item by item, for a service that recommends after each click."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.ops.packing import last_tokens

if TYPE_CHECKING:
    from recbole_ssm.serving.recommender import Recommender


class Session:
    """A history that grows by one item at a time.

    A model that keeps a state (Mamba4Rec, 2Mamba4Rec, LRURec, without ``MAX_ITEM_LIST_LENGTH``) reads each item once,
    in a time that does not depend on how many came before. The others read their whole history again.

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
        recommender: Recommender,
        history: Iterable[str] = (),
        columns: Mapping[str, Sequence[float]] | None = None,
    ):
        self._recommender = recommender
        self._streams = recommender.model.streams and not recommender._longest
        self._hidden: Tensor | None = None
        self._state: list | None = None
        self._seen: dict[int, None] = {}
        names = list(history) if isinstance(history, Iterable) and not isinstance(history, str) else history
        numbers = recommender._numbers(names)
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
            self._hidden, self._state = model.prefill(tokens, borders, **model.columns_of(batch))
        self._seen = dict.fromkeys(numbers)

    def __copy__(self) -> Session:
        """A branch: what is added to one is not added to the other. Both share the model."""
        branch = object.__new__(Session)
        branch.__dict__ |= self.__dict__ | {"history": list(self.history), "_seen": dict(self._seen)}
        branch.columns = {name: list(values) for name, values in self.columns.items()}
        return branch

    def add(self, item: str, columns: Mapping[str, float] | None = None) -> None:
        """Add the next item of the history.

        Args:
            item: its name.
            columns: for each of the recommender's ``columns``, its value.

        Raises:
            InputError: the model does not know the item, or ``columns`` do not fit; the history is as before.
        """
        model, numbers = self._recommender.model, self._recommender._numbers([item])
        values = self._recommender._values([[item]], _of_one(columns, single=True))
        if self._streams:
            batch = self._recommender._batch([numbers], values)
            with self._recommender.computing():
                tokens, _ = model.packed(batch)
                self._hidden, self._state = model.step(tokens, self._state, **model.columns_of(batch))
            self._seen[numbers[0]] = None
        self.history.append(item)
        for name, ((value,),) in values.items():
            self.columns[name].append(value)

    def recommend(self, k: int = 10) -> list[tuple[str, float]]:
        """The names and scores of the best ``k`` items after this history; see :meth:`Recommender.recommend`."""
        k = read_count(k)
        if not self._streams or not self.history:
            columns = {name: [values] for name, values in self.columns.items()}
            return self._recommender.recommend([self.history], k, columns=columns)[0]
        assert self._hidden is not None  # a history that is not empty was read
        model, seen = self._recommender.model, list(self._seen)
        tokens = torch.tensor(seen, device=self._recommender.device)
        borders = torch.tensor([0, len(seen)], dtype=torch.int32, device=tokens.device)
        with self._recommender.computing():
            scores = model.score_all(self._hidden, model.items_seen(tokens, borders, last_tokens(borders)))
            return self._recommender._best(scores, [seen], k)[0]


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
