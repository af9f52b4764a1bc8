"""The states of many sessions at once: read from histories, stepped together, and ranked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_ssm.model.packed_input import LeftOut
from recbole_ssm.ops.added import Added, AddedWhere
from recbole_ssm.ops.packing import cumulative_lengths, last_tokens
from recbole_ssm.serving.layout import Layout

if TYPE_CHECKING:
    from recbole_ssm.serving.recommender import Recommender

_MARKED = 50_000
"""For more items than this, to mark those of each history takes longer than to name them."""


class States:
    """States of sessions as bytes, which can be kept anywhere, and what a model does with them.

    A state is what the model makes of a history and what it goes on with. It has the same size after 5 items and after
    5,000. All methods are called within :meth:`Recommender.computing`.

    Args:
        recommender: with a model that streams.

    Attributes:
        size: bytes of a state.
    """

    def __init__(self, recommender: Recommender):
        self._recommender, self._model = recommender, recommender.model
        device = recommender.device
        item = torch.zeros(1, dtype=torch.int64, device=device)
        columns = {
            name: value.to(device)
            for name, value in recommender._of_item(dict.fromkeys(recommender.columns, 0.0)).items()
        }
        with recommender.computing():
            self._step = self._model.stepper()
            hidden, state = self._model.prefill(item, cumulative_lengths(torch.ones(1)).to(device), **columns)
        self._layout = Layout(hidden, state)
        self.size = self._layout.size

    def begin(
        self, histories: Sequence[NDArray[np.int64]], columns: Mapping[str, Sequence[Sequence[float]]]
    ) -> list[bytes]:
        """The states after whole histories.

        Args:
            histories: S times numbers of items, none empty.
            columns: for each of the recommender's, a value for each item of each history.

        Returns:
            S states.
        """
        recommender, model = self._recommender, self._model
        if all(len(history) == 1 for history in histories):  # as most sessions begin; a step costs less
            item = torch.from_numpy(np.concatenate(histories)).to(recommender.device)
            first = self._columns({name: [times[0] for times in of] for name, of in columns.items()})
            return self._layout.written(*self._step(item, None, **first))
        values = {name: [list(each) for each in of] for name, of in columns.items()}
        batch = recommender._batch([history.tolist() for history in histories], values)
        tokens, borders = model.packed(batch)
        return self._layout.written(*model.prefill(tokens, borders, **model.columns_of(batch)))

    def step(
        self, states: Sequence[bytes], items: Sequence[Sequence[int]], columns: Mapping[str, Sequence[Sequence[float]]]
    ) -> list[bytes]:
        """The states after more items: all first ones at once, then all second ones.

        Args:
            states: R of them.
            items: R times numbers of items.
            columns: for each of the recommender's, a value for each item.

        Returns:
            R states.
        """
        after, device = list(states), self._recommender.device
        for place in range(max(map(len, items), default=0)):
            rows = [row for row, each in enumerate(items) if len(each) > place]
            values = {name: [of[row][place] for row in rows] for name, of in columns.items()}
            item = torch.tensor([items[row][place] for row in rows], device=device)
            state = self._layout.state([after[row] for row in rows], device)
            stepped = self._layout.written(*self._step(item, state, **self._columns(values)))
            for row, found in zip(rows, stepped, strict=True):
                after[row] = found
        return after

    def scores(
        self, states: Sequence[bytes], histories: Sequence[NDArray[np.int64]], k: int, left_out: LeftOut
    ) -> Tensor:
        """The scores (R, n_items) of all items, of which the k best must be right.

        Args:
            states: R of them.
            histories: R times the numbers of the items that count as had, for models that look at these.
            k: how many items are wanted.
            left_out: gives rows (n,) and items (n,) that are not recommended.

        Returns:
            The scores; column i is item i.
        """
        hidden, added = self.read(states, histories)
        state = partial(self._layout.state, states, self._recommender.device)
        return self._model.rank_after(hidden, state, added, k, left_out)

    def read(
        self, states: Sequence[bytes], histories: Sequence[NDArray[np.int64]]
    ) -> tuple[Tensor, tuple[Added | AddedWhere, ...]]:
        """What scores are made of.

        Args:
            states: R of them.
            histories: as for :meth:`scores`.

        Returns:
            (R, hidden_size) representations, and what is added to scores after these histories.
        """
        return self._layout.hidden(states, self._recommender.device), self._added(histories)

    def _added(self, histories: Sequence[NDArray[np.int64]]) -> tuple[Added | AddedWhere, ...]:
        """What is added after histories: by marks of all items, or where these are many by the items that are had."""
        model, device = self._model, self._recommender.device
        if model.n_items <= _MARKED:
            return model.added_after(*self._had(histories))
        borders = cumulative_lengths(torch.tensor([len(each) for each in histories])).to(device)
        return model.added(torch.from_numpy(np.concatenate(histories)).to(device), borders, last_tokens(borders))

    def _had(self, histories: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Which items (R, n_items) bool histories have, where the model asks, and their latest (R, n_recent)."""
        model, device, n = self._model, self._recommender.device, len(histories)
        seen = torch.zeros(n, model.n_items if model.repeat_bias is not None else 0, dtype=torch.bool)
        if seen.numel():
            rows = np.repeat(np.arange(n), [len(each) for each in histories])
            seen.numpy()[rows, np.concatenate(histories)] = True
        latest = torch.zeros(n, model.n_recent, dtype=torch.int64)
        for row, history in enumerate(histories if model.n_recent else ()):
            newest = history[: -model.n_recent - 1 : -1]
            latest[row, : len(newest)] = torch.from_numpy(newest.copy())
        return seen.to(device), latest.to(device)

    def _columns(self, values: Mapping[str, list[float]]) -> dict[str, Tensor]:
        numbers = {name: torch.tensor(each, dtype=torch.float64) for name, each in values.items()}
        found = self._recommender._columns
        return {
            column.name: column.values(numbers[name]).to(self._recommender.device) for name, column in found.items()
        }
