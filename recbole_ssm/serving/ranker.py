"""The model of a checkpoint on its device: histories of item names go in, the best items come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.checkpoints.load import stored_model
from recbole_ssm.checkpoints.popularity import KEY
from recbole_ssm.data.transfer import on_device
from recbole_ssm.errors import InputError
from recbole_ssm.ops.backends import use_backend
from recbole_ssm.ops.packing import cumulative_lengths
from recbole_ssm.serving.choice import Choice, best_items, read_choice
from recbole_ssm.serving.columns import read_columns
from recbole_ssm.serving.devices import usable_backend_of, usable_device
from recbole_ssm.serving.names import ItemNames, read_history
from recbole_ssm.serving.session import read_count
from recbole_ssm.serving.stepping import RecordedStepper, Stepper
from recbole_ssm.system import threads

_SCORES, _TOKENS = 2**24, 2**16
"""The most scores and the most items of histories in one batch, unless one history alone has more."""

Ranked = list[list[tuple[str, float]]]
"""For each history names and scores of items, the best first."""


class Ranker:
    """What :class:`recbole_ssm.serving.recommender.Recommender` and its sessions compute with; see there.

    Args:
        state: what is in a checkpoint.
        file: its name.
        device: where the model computes, in torch's notation.
        filter_seen: whether items of the history are left out; None for what the training had.
        ssm_backend: which code computes the model's ops; None for what the training had.
        cuda_graph: whether on a GPU the steps of sessions are recorded.
    """

    def __init__(
        self,
        state: dict[str, Any],
        file: str | Path,
        device: torch.device | str,
        *,
        filter_seen: bool | None,
        ssm_backend: str | None,
        cuda_graph: bool,
    ):
        threads.one_after_fork()
        self.device = usable_device(device)
        self._backend = usable_backend_of(ssm_backend, state["config"].get("ssm_backend"), self.device)
        self.model = stored_model(state, self.device, file)
        self.name = str(state["config"]["model"])
        """The model's name, as ``--model`` takes it."""
        self.items: list[str] = state["item_vocabulary"]
        self.filter_seen = bool(state["config"].get("filter_seen"))
        self.filter_seen = self.filters_seen(filter_seen)
        self._longest = state["config"].get("MAX_ITEM_LIST_LENGTH")
        self.names = ItemNames(self.items)
        self._columns = {column.field(state["config"]): column for column in self.model.columns}
        self.columns = list(self._columns)
        counts = state.get(KEY, getattr(self.model, "frequency", None))
        self.popularity: Tensor | None = None if counts is None else counts.float().cpu()
        """(n_items,) how often items were had of late; None for checkpoints that do not say it."""
        self._cuda_graph = cuda_graph and self.device.type == "cuda"
        self._steppers: dict[torch.dtype, Stepper] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What pickle and copy take: all but what sessions compute with, which is made again."""
        return self.__dict__ | {"_steppers": {}}

    def __contains__(self, item: str) -> bool:
        """Whether the model knows an item of this name."""
        return item in self.names

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within this context the model computes without gradients, on its backend."""
        with torch.inference_mode(), use_backend(self._backend):
            yield

    def filters_seen(self, asked: bool | None) -> bool:
        """Whether items of the history are left out: as is asked for, or as the recommender does; else InputError."""
        if not isinstance(asked, bool | None):
            raise InputError(f"filter_seen must be True, False or None, but is {asked!r}")
        return self.filter_seen if asked is None else asked

    def choice(self, candidates: Any, exclude: Any, histories: int, *, skip_unknown: bool = False) -> Choice:
        """What may be recommended after so many histories; see :func:`recbole_ssm.serving.choice.read_choice`."""
        return read_choice(self.names, len(self.items), candidates, exclude, histories, skip_unknown=skip_unknown)

    def ranked(
        self,
        histories: Iterable[Sequence[str]],
        k: int,
        choice: Choice,
        *,
        filter_seen: bool | None = None,
        skip_unknown: bool = False,
        columns: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> Ranked:
        """The items with the highest scores after each history.

        Args:
            histories: the item names of each, the latest last.
            k: how many items are wanted.
            choice: which items may be recommended.
            filter_seen: whether items of the history are left out; None for what the recommender has.
            skip_unknown: pass over items that the model does not know. A history without any other gets no items.
            columns: for each of :attr:`columns`, its values in each history: one for each item.

        Returns:
            For each history the names and scores of the best ``k`` items, the best first; fewer if no more are left.

        Raises:
            InputError: see :meth:`recbole_ssm.serving.recommender.Recommender.recommend`.
        """
        k, filter_seen, histories = read_count(k), self.filters_seen(filter_seen), list(map(read_history, histories))
        numbers = [self.names.numbers(history, skip_unknown=skip_unknown) for history in histories]
        values = self._values(histories, columns)
        if not skip_unknown and not all(numbers):
            raise InputError("a history is empty; leave it out: nothing can be recommended for it")
        return self._best(numbers, values, choice.without(numbers) if filter_seen else choice, k)

    def _best(
        self, numbers: Sequence[list[int]], values: Mapping[str, Sequence[list[float]]], choice: Choice, k: int
    ) -> Ranked:
        found: Ranked = [[] for _ in numbers]
        for some in self._batches([row for row, history in enumerate(numbers) if history], numbers):
            batch = self._batch(
                [numbers[row] for row in some], {name: [of[row] for row in some] for name, of in values.items()}
            )
            with self.computing():
                best = best_items(self.model, batch, choice.of(some), k)
            for row, items in zip(some, best, strict=True):
                found[row] = self._named(*items)
        return found

    def _batch(self, numbers: Sequence[list[int]], values: Mapping[str, Sequence[list[float]]]) -> Interaction:
        """A packed batch of what the model reads of histories."""
        latest = slice(-self._longest, None) if self._longest else slice(None)
        read = [history[latest] for history in numbers]
        fields = {self.model.ITEM_SEQ: torch.tensor([number for history in read for number in history])}
        fields["cu_seqlens"] = cumulative_lengths(torch.tensor([len(history) for history in read]))
        for name, column in self._columns.items():
            flat = torch.tensor([value for each in values[name] for value in each[latest]], dtype=torch.float64)
            fields[self.model.field_of(column)] = column.values(flat)
        return on_device(Interaction(fields), self.device)

    def _values(
        self,
        histories: Sequence[Sequence[str]],
        columns: Mapping[str, Sequence[Sequence[float]]] | None,
    ) -> dict[str, list[list[float]]]:
        """The values of the columns in each history, of the items that the model knows."""
        read = read_columns(columns, self.columns, [len(history) for history in histories])
        return {
            name: [
                [value for item, value in zip(history, values, strict=True) if item in self]
                for history, values in zip(histories, given, strict=True)
            ]
            for name, given in read.items()
        }

    def _batches(self, rows: Iterable[int], numbers: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """The rows, as many at a time as :data:`_SCORES` and :data:`_TOKENS` allow."""
        some: list[int] = []
        tokens = 0
        for row in rows:
            length = len(numbers[row])
            if some and (tokens + length > _TOKENS or (len(some) + 1) * len(self.items) > _SCORES):
                yield some
                some, tokens = [], 0
            some.append(row)
            tokens += length
        if some:
            yield some

    def _named(self, scores: list[float], items: list[int]) -> list[tuple[str, float]]:
        """Names and scores of the best items, without those that are left out."""
        if any(score != score for score in scores[:1]):  # topk sorts NaN before all numbers
            raise InputError("the model's scores are NaN, so some of its weights are broken; use another checkpoint")
        return [(self.items[item], score) for item, score in zip(items, scores, strict=True) if score > -torch.inf]

    def _of_item(self, values: Mapping[str, float]) -> dict[str, Tensor]:
        """What the model gets for the columns of one item, (1,) each, by the names of its arguments."""
        return {
            column.name: column.values(torch.tensor([values[name]], dtype=torch.float64))
            for name, column in self._columns.items()
        }

    def _stepper(self) -> Stepper:
        """What reads and ranks for sessions; another one once the model has another number type."""
        dtype = self.model.item_embedding.weight.dtype
        if dtype not in self._steppers:
            kind = RecordedStepper if self._cuda_graph and self.model.step_is_fixed else Stepper
            columns = self._of_item(dict.fromkeys(self._columns, 0.0))
            self._steppers[dtype] = kind(self.model, self.device, columns)
        return self._steppers[dtype]
