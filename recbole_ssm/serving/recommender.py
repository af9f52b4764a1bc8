"""A trained model in use: item names of a history go in, recommended item names come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.configuration import stored_config, usable_backend
from recbole_ssm.checkpoints.load import stored_model
from recbole_ssm.data import create_dataset
from recbole_ssm.data.order import chronological_column, chronological_history
from recbole_ssm.data.transfer import moved, on_device
from recbole_ssm.errors import InputError
from recbole_ssm.ops.backends import check_backend, use_backend
from recbole_ssm.ops.packing import cumulative_lengths, sequence_index
from recbole_ssm.serving.columns import read_columns
from recbole_ssm.serving.session import Session, read_count
from recbole_ssm.serving.stepping import RecordedStepper, Stepper

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
        if not isinstance(filter_seen, bool | None):
            raise InputError(f"filter_seen must be True, False or None, but is {filter_seen!r}")
        self.device = _usable_device(device)
        state = checkpoint.read(file)
        self._backend = _usable_backend(ssm_backend, state["config"].get("ssm_backend"), self.device)
        self.model = stored_model(state, self.device, file)
        self.items: list[str] = state["item_vocabulary"]
        self.filter_seen = bool(state["config"].get("filter_seen")) if filter_seen is None else filter_seen
        self._stored = {key: state[key] for key in ("config", "given")}
        self._longest = state["config"].get("MAX_ITEM_LIST_LENGTH")
        self._number = {name: number for number, name in enumerate(self.items) if number > 0}
        self._columns = {column.field(state["config"]): column for column in self.model.columns}
        self.columns = list(self._columns)
        self._cuda_graph = cuda_graph and self.device.type == "cuda"
        self._steppers: dict[torch.dtype, Stepper] = {}

    def __contains__(self, item: str) -> bool:
        """Whether the model knows an item of this name."""
        return item in self._number

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
        skip_unknown: bool = False,
        columns: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> list[list[tuple[str, float]]]:
        """The items with the highest scores after each history.

        Args:
            histories: the item names of each history, the latest last.
            k: how many items are wanted.
            skip_unknown: pass over items that the model does not know. A history without any other gets no items.
            columns: for each of :attr:`columns`, its values in each history: one for each item.

        Returns:
            For each history the names and scores of the best ``k`` items, the best first; fewer if no more are left.

        Raises:
            InputError: a history is empty or has an unknown item, ``k`` is not a whole number above 0, or ``columns``
                do not fit.
        """
        k = read_count(k)
        if not isinstance(histories, Iterable):
            raise InputError(f"histories are a list of lists of names of items, and not {histories!r}")
        histories = list(histories)
        numbers = [self._numbers(history, skip_unknown) for history in histories]
        values = self._values(histories, columns)
        rows = [row for row, history in enumerate(numbers) if history]
        if len(rows) < len(numbers) and not skip_unknown:
            raise InputError("a history is empty; leave it out: nothing can be recommended for it")
        found: list[list[tuple[str, float]]] = [[] for _ in numbers]
        for some in self._batches(rows, numbers):
            batch = self._batch(
                [numbers[row] for row in some], {name: [of[row] for row in some] for name, of in values.items()}
            )
            with self.computing():
                scores = self.model.full_sort_predict(batch)
                best = self._best(scores, [numbers[row] for row in some], k)
            for row, items in zip(some, best, strict=True):
                found[row] = items
        return found

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
            before = self._numbers(history[: len(history) - n], skip_unknown)
            after = self._numbers(history[len(history) - n :], skip_unknown)
            numbers.append(before + after)
            fresh += [False] * len(before) + [True] * len(after)
        numbers = [each for each in numbers if each]
        tokens = torch.tensor([number for each in numbers for number in each], dtype=torch.int64)
        self.model.update(
            tokens, cumulative_lengths(torch.tensor([len(each) for each in numbers])), torch.tensor(fresh)
        )
        self._steppers.clear()  # what they have recorded reads the counts of before

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
        everybody = dict.fromkeys(("user_inter_num_interval", "item_inter_num_interval"), "[0,inf)")
        config = stored_config(self._stored, dataset, command_line, **everybody)
        if config["benchmark_filename"] is not None:
            raise InputError(
                "benchmark_filename: such files have no whole histories; give one (--history), or with "
                "--benchmark_filename=None a dataset of one file"
            )
        data = create_dataset(config, packed=True, samples=False)
        items, start = chronological_history(data)
        names = data.field2id_token[data.iid_field][items.numpy()].tolist()
        users = data.field2id_token[data.uid_field].tolist()
        borders = [*start.tolist(), len(names)]

        def by_user(flat: list) -> dict[str, list]:
            return {users[user]: flat[borders[user] : borders[user + 1]] for user in range(1, len(users))}

        return by_user(names), {name: by_user(chronological_column(data, name).tolist()) for name in self.columns}

    def session(self, history: Iterable[str] = (), columns: Mapping[str, Sequence[float]] | None = None) -> Session:
        """A history that grows by one item at a time; see :class:`recbole_ssm.serving.session.Session`."""
        return Session(self, history, columns)

    def _numbers(self, history: Iterable[str], skip_unknown: bool = False) -> list[int]:
        if isinstance(history, str) or not isinstance(history, Iterable):
            raise InputError(f"a history is a list of names of items, and not {history!r}")
        numbers = []
        for name in history:
            if not isinstance(name, str):
                raise InputError(f"names of items are words, such as {str(name)!r}, and not {type(name).__name__}s")
            if name in self._number:
                numbers.append(self._number[name])
            elif not skip_unknown:
                raise InputError(
                    f"the model knows no item {name!r}; it was not in the data of the training, or was too rare there"
                )
        return numbers

    def _best(self, scores: Tensor, histories: Sequence[Sequence[int]], k: int) -> list[list[tuple[str, float]]]:
        """The best ``k`` items of each row of scores (R, n_items), which are changed."""
        scores[:, 0] = -torch.inf
        if self.filter_seen:
            borders = cumulative_lengths(torch.tensor([len(history) for history in histories]))
            items = torch.tensor([number for history in histories for number in history])
            scores[tuple(moved([sequence_index(borders, len(items)).long(), items], self.device))] = -torch.inf
        best = torch.topk(scores, min(k, scores.shape[1]))
        return [self._named(*row) for row in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

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
