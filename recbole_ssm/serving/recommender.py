"""A trained model in use: item names of a history go in, recommended item names come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.configuration import usable_backend
from recbole_ssm.checkpoints.load import stored_model
from recbole_ssm.data.transfer import on_device
from recbole_ssm.errors import InputError
from recbole_ssm.ops.backends import check_backend, use_backend
from recbole_ssm.ops.packing import cumulative_lengths
from recbole_ssm.serving.choice import Choice, Items, best_items, read_choice
from recbole_ssm.serving.columns import read_columns
from recbole_ssm.serving.names import ItemNames
from recbole_ssm.serving.nearness import Part, nearest, parts
from recbole_ssm.serving.session import Session, read_count
from recbole_ssm.serving.stepping import RecordedStepper, Stepper
from recbole_ssm.serving.user_histories import read_histories

_SCORES, _TOKENS = 2**24, 2**16
"""The most scores and the most items of histories in one batch, unless one history alone has more."""


class Recommender:
    """The model of a checkpoint, with the names of its items. It needs no other file.

    Args:
        file: checkpoint of a model of this package.
        device: where the model computes, in torch's notation.
        filter_seen: whether items of the history are left out; None for what the training had.
        ssm_backend: which code computes the model's ops; None for what the training had, or ``auto`` where that cannot
            be used.
        cuda_graph: whether on a GPU the steps of sessions are recorded and launched as one; False to launch each of
            their kernels.

    Attributes:
        model: the model, in evaluation mode.
        items: name of each item by its number; number 0 is the padding.
        names: the same, to look up numbers.
        columns: names of the columns that the model reads beside the items, as in the data that it was trained on.

    Raises:
        CheckpointError: the file cannot be read, or holds another model.
        InputError: there is no such device or backend, or ``filter_seen`` is something else.
    """

    def __init__(
        self,
        file: str | Path,
        device: torch.device | str = "cpu",
        *,
        filter_seen: bool | None = None,
        ssm_backend: str | None = None,
        cuda_graph: bool = True,
    ):
        self.device = _usable_device(device)
        state = checkpoint.read(file)
        self._backend = _usable_backend(ssm_backend, state["config"].get("ssm_backend"), self.device)
        self.model = stored_model(state, self.device, file)
        self.items: list[str] = state["item_vocabulary"]
        self.filter_seen = bool(state["config"].get("filter_seen"))
        self.filter_seen = self.filters_seen(filter_seen)
        self._stored = {key: state[key] for key in ("config", "given")}
        self._longest = state["config"].get("MAX_ITEM_LIST_LENGTH")
        self.names = ItemNames(self.items)
        self._columns = {column.field(state["config"]): column for column in self.model.columns}
        self.columns = list(self._columns)
        self._cuda_graph = cuda_graph and self.device.type == "cuda"
        self._steppers: dict[torch.dtype, Stepper] = {}

    def __contains__(self, item: str) -> bool:
        """Whether the model knows an item of this name."""
        return item in self.names

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within this context the model computes without gradients, on its backend."""
        with torch.inference_mode(), use_backend(self._backend):
            yield

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        candidates: Items | Sequence[Items | None] | None = None,
        exclude: Items | Sequence[Items | None] | None = None,
        filter_seen: bool | None = None,
        skip_unknown: bool = False,
        columns: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> list[list[tuple[str, float]]]:
        """The items with the highest scores after each history.

        Args:
            histories: the item names of each history, the latest last.
            k: how many items are wanted.
            candidates: names of the items that alone may be recommended; or for each history such a list, or None for
                all items. In place of names numbers, an int64 tensor (n,).
            exclude: names of items that may not be recommended, in the same ways.
            filter_seen: whether items of the history are left out; None for what the recommender has.
            skip_unknown: pass over items that the model does not know. A history without any other gets no items.
            columns: for each of :attr:`columns`, its values in each history: one for each item.

        Returns:
            For each history the names and scores of the best ``k`` items, the best first; fewer if no more are left.

        Raises:
            InputError: a history is empty, an item is unknown, ``k`` is not a whole number above 0, or something else
                does not fit.
        """
        k, filter_seen = read_count(k), self.filters_seen(filter_seen)
        if not isinstance(histories, Iterable):
            raise InputError(f"histories are a list of lists of names of items, and not {histories!r}")
        histories = list(histories)
        numbers = [self.names.numbers(history, skip_unknown=skip_unknown) for history in histories]
        values = self._values(histories, columns)
        choice = self._choice(candidates, exclude, len(histories), skip_unknown)
        if not skip_unknown and not all(numbers):
            raise InputError("a history is empty; leave it out: nothing can be recommended for it")
        return self._best(numbers, values, choice.without(numbers) if filter_seen else choice, k)

    def _best(
        self, numbers: Sequence[list[int]], values: Mapping[str, Sequence[list[float]]], choice: Choice, k: int
    ) -> list[list[tuple[str, float]]]:
        found: list[list[tuple[str, float]]] = [[] for _ in numbers]
        for some in self._batches([row for row, history in enumerate(numbers) if history], numbers):
            batch = self._batch(
                [numbers[row] for row in some], {name: [of[row] for row in some] for name, of in values.items()}
            )
            with self.computing():
                best = best_items(self.model, batch, choice.of(some), k)
            for row, items in zip(some, best, strict=True):
                found[row] = self._named(*items)
        return found

    def filters_seen(self, asked: bool | None) -> bool:
        """Whether items of the history are left out: as is asked for, or as the recommender does; else InputError."""
        if not isinstance(asked, bool | None):
            raise InputError(f"filter_seen must be True, False or None, but is {asked!r}")
        return self.filter_seen if asked is None else asked

    def similar(self, items: Sequence[str], k: int = 10) -> list[list[tuple[str, float]]]:
        """The items whose embeddings are nearest to those of some items, by cosine.

        Args:
            items: names.
            k: how many are wanted for each.

        Returns:
            For each item names and cosines of ``k`` others, the nearest first.

        Raises:
            InputError: an item is unknown, ``k`` is not a whole number above 0, or the model has no embeddings.
        """
        k, numbers = read_count(k), self.names.numbers(items, what="items")
        return [self._named(*found) for found in nearest(self.model, numbers, k)]

    def explain(self, history: Sequence[str], item: str) -> list[Part]:
        """What each item of a history says for another item.

        Similarities and counts go beside the score, and do not add up to it: the model reads the history as a whole.

        Args:
            history: names of items.
            item: name of the other item.

        Returns:
            A part for each item of the history, in its order.

        Raises:
            InputError: an item is unknown.
        """
        (number,) = self.names.numbers([item], what="item")
        with self.computing():
            found = parts(self.model, self.names.numbers(history), number)
        return [Part(*each) for each in zip(history, *found, strict=True)]

    def update(
        self, histories: Sequence[Sequence[str]], new: Sequence[int] | None = None, *, skip_unknown: bool = False
    ) -> None:
        """Let what the model counts take in new interactions, without training.

        That is the ``transition_memory`` of a trained model, and all that PCTM, SeqRules and MarkovChain know. Sessions
        go on, and use the new counts. The checkpoint's file stays as it is.

        Args:
            histories: the item names of each history, the latest last.
            new: how many of the latest items of each history are new; None: all are.
            skip_unknown: pass over items that the model does not know.

        Raises:
            InputError: the model counts nothing, a history has an unknown item, or ``new`` does not fit.
        """
        new = [len(history) for history in histories] if new is None else list(new)
        if len(new) != len(histories) or any(not 0 <= n <= len(each) for n, each in zip(new, histories, strict=False)):
            raise InputError("new must be a number for each history, from 0 to the number of its items")
        numbers, fresh = [], []
        for history, n in zip(histories, new, strict=True):
            before = self.names.numbers(history[: len(history) - n], skip_unknown=skip_unknown)
            after = self.names.numbers(history[len(history) - n :], skip_unknown=skip_unknown)
            numbers.append(before + after)
            fresh += [False] * len(before) + [True] * len(after)
        numbers = [each for each in numbers if each]
        tokens = torch.tensor([number for each in numbers for number in each], dtype=torch.int64)
        self.model.update(
            tokens, cumulative_lengths(torch.tensor([len(each) for each in numbers])), torch.tensor(fresh)
        )
        self._steppers.clear()  # what they have recorded reads the counts of before

    def _choice(self, candidates: Any, exclude: Any, histories: int, skip_unknown: bool) -> Choice:
        return read_choice(self.names, len(self.items), candidates, exclude, histories, skip_unknown=skip_unknown)

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

    def histories(self, dataset: str | None = None, command_line: Iterable[str] = ()) -> dict[str, list[str]]:
        """The items of :meth:`histories_and_columns`."""
        return self.histories_and_columns(dataset, command_line)[0]

    def histories_and_columns(
        self, dataset: str | None = None, command_line: Iterable[str] = ()
    ) -> tuple[dict[str, list[str]], dict[str, dict[str, list[float]]]]:
        """The histories of all users of a dataset, read as the training read its data.

        Rare users and items are kept, whatever the training's filters are.

        Args:
            dataset: name; None for the one that the model was trained on.
            command_line: arguments ``--key=value`` about the data, for example ``--data_path=FOLDER``.

        Returns:
            Item names by user name, the latest last, with those that training held out for validation and test. And for
            each of :attr:`columns` its values by user name.

        Raises:
            InputError: the data cannot be read.
        """
        return read_histories(self._stored, dataset, command_line, self.columns)

    def session(self, history: Iterable[str] = (), columns: Mapping[str, Sequence[float]] | None = None) -> Session:
        """A history that grows by one item at a time; see :class:`recbole_ssm.serving.session.Session`."""
        return Session(self, history, columns)

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
            kind = RecordedStepper if self._cuda_graph else Stepper
            columns = self._of_item(dict.fromkeys(self._columns, 0.0))
            self._steppers[dtype] = kind(self.model, self.device, columns)
        return self._steppers[dtype]


def _usable_device(device: torch.device | str) -> torch.device:
    try:
        torch.ones(1, device=device).item()
        return torch.device(device)
    except (AssertionError, ImportError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise InputError(f"device {device!r} cannot be used ({reason}); name another, for example cpu") from error


def _usable_backend(asked: str | None, stored: str | None, device: torch.device) -> str:
    """The backend that is asked for, or else the one of the training where it can be used on this device."""
    if asked is None:
        return usable_backend(stored, device.type) or "auto"
    try:
        check_backend(asked)
    except ValueError as error:
        raise InputError(f"ssm_backend: {error}") from error
    return asked
