"""The states of many sessions at once: read from histories, stepped together, and ranked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_ssm.ops.added import Added, AddedWhere
from recbole_ssm.ops.packing import cumulative_lengths, last_tokens
from recbole_ssm.serving.forms import leaves, like
from recbole_ssm.serving.traced import TracedStep

if TYPE_CHECKING:
    from recbole_ssm.serving.recommender import Recommender

_ALIGNED = 16
"""Each tensor of a state begins at a multiple of so many bytes."""

_MARKED = 50_000
"""For more items than this, to mark those of each history takes longer than to name them."""


class States:
    """States of sessions as bytes, which can be kept anywhere, and what a model does with them.

    A state is what the model makes of a history and what it goes on with. It has the same size after 5 items and after
    5,000.

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
            hidden, self._form = self._model.prefill(item, cumulative_lengths(torch.ones(1)).to(device), **columns)
        traced = device.type == "cpu" and self._model.step_is_fixed
        self._model_step = TracedStep(self._model, self._form) if traced else self._model.step
        parts = hidden, *leaves(self._form)
        self._kinds = [(part.shape[1:], part.dtype) for part in parts]
        sizes = [part.numel() * part.element_size() for part in parts]
        self._sizes = [size + -size % _ALIGNED for size in sizes]
        self.size = sum(self._sizes)

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
        values = {name: [list(each) for each in of] for name, of in columns.items()}
        batch = recommender._batch([history.tolist() for history in histories], values)
        with recommender.computing():
            tokens, borders = model.packed(batch)
            found = model.prefill(tokens, borders, **model.columns_of(batch))
            return self._bytes(self._memory(len(histories), *found))

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
        with self._recommender.computing():
            memory = self._tensor(states)
            for place in range(max(map(len, items), default=0)):
                rows = [row for row, each in enumerate(items) if len(each) > place]
                values = {name: [of[row][place] for row in rows] for name, of in columns.items()}
                memory = self._step(memory, rows, [items[row][place] for row in rows], values)
            return self._bytes(memory)

    def _step(self, memory: Tensor, rows: list[int], items: list[int], columns: Mapping[str, list[float]]) -> Tensor:
        """The memory (R, size) after one item more of some rows."""
        everybody = len(rows) == len(memory)
        index = torch.tensor(rows, device=memory.device)
        _, state = self._parts(memory if everybody else memory[index])
        item = torch.tensor(items, device=memory.device)
        stepped = self._memory(len(rows), *self._model_step(item, state, **self._columns(columns)))
        return stepped if everybody else memory.index_copy(0, index, stepped)

    def scores(self, states: Sequence[bytes], histories: Sequence[NDArray[np.int64]]) -> Tensor:
        """The scores (R, n_items) of all items.

        Args:
            states: R of them.
            histories: R times the numbers of the items that count as had, for models that look at these.

        Returns:
            The scores; column i is item i.
        """
        with self._recommender.computing():
            return self._model.score_all(*self.read(states, histories))

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
        with self._recommender.computing():
            hidden, _ = self._parts(self._tensor(states))
            return hidden, self._added(histories)

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

    def _tensor(self, states: Sequence[bytes]) -> Tensor:
        """States as (R, size) uint8 on the device."""
        joined = np.frombuffer(bytearray(b"".join(states)), np.uint8)
        return torch.from_numpy(joined).view(len(states), self.size).to(self._recommender.device)

    def _bytes(self, memory: Tensor) -> list[bytes]:
        """Of each row."""
        return [row.tobytes() for row in memory.cpu().numpy()]

    def _parts(self, memory: Tensor) -> tuple[Tensor, Any]:
        """The representations (R, hidden_size) in a memory (R, size), and the state."""
        parts = memory.split_with_sizes(self._sizes, 1)
        hidden, *state = (
            part[:, : shape.numel() * dtype.itemsize].view(dtype).view(len(memory), *shape)
            for part, (shape, dtype) in zip(parts, self._kinds, strict=True)
        )
        return hidden, like(self._form, iter(state))

    def _memory(self, n: int, hidden: Tensor, state: Any) -> Tensor:
        """A memory (n, size) of representations and states."""
        memory = torch.zeros(n, self.size, dtype=torch.uint8, device=hidden.device)
        kept, there = self._parts(memory)
        kept.copy_(hidden)
        for old, new in zip(leaves(there), leaves(state), strict=True):
            old.copy_(new)
        return memory
