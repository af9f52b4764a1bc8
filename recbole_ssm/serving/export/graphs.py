"""The two functions that a graph can hold: a whole history to scores, and one item more to scores and a new state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_ssm.errors import InputError
from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.counting import CountingRecommender
from recbole_ssm.ops.backends import use_backend
from recbole_ssm.ops.backends.exportable import EXPORTABLE
from recbole_ssm.ops.packing import last_tokens
from recbole_ssm.ops.values import unread_values
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.stepping import leaves, like


class Graph(NamedTuple):
    """A function to put into a graph, with an example of its inputs."""

    name: str
    """``history`` or ``step``."""
    module: WholeHistory | Step
    inputs: dict[str, Tensor]
    """By name, in the order of the module's arguments."""
    outputs: list[str]
    dynamic: dict[str, int]
    """Inputs whose first size may be any, and the least that it may be."""


@contextmanager
def exportable() -> Iterator[None]:
    """Within this context a model computes in a form that a graph can hold, without gradients."""
    with torch.no_grad(), use_backend(EXPORTABLE), unread_values():
        yield


class Ranking(nn.Module):
    """Scores of all items, with what the model adds to them.

    Args:
        model: in evaluation mode.
        filter_seen: whether items of the history get -inf.
        k: how many best items are wanted in place of all scores; None for all scores.
    """

    model: PackedSequentialRecommender

    def __init__(self, model: PackedSequentialRecommender, filter_seen: bool, k: int | None):
        super().__init__()
        self.model, self.filter_seen, self.k = model, filter_seen, k

    @property
    def outputs(self) -> list[str]:
        """Names of what :meth:`forward` returns."""
        return ["hidden", "scores"] if self.k is None else ["hidden", "best_scores", "best_items"]

    @property
    def keeps_seen(self) -> bool:
        """Whether it matters which items a history has."""
        return self.filter_seen or self.model.repeat_bias is not None

    def forward(self, hidden: Tensor, seen: Tensor, latest: Tensor) -> tuple[Tensor, ...]:
        """The outputs.

        Args:
            hidden: (R, hidden_size), of R histories.
            seen: (R, n_items) bool, the items of each.
            latest: (R, n_recent) int64, the latest of each, the newest first; 0 where there are fewer.

        Returns:
            hidden, and scores (R, n_items), or scores (R, k) and items (R, k) int64.
        """
        scores = self.model.score_all(hidden, self.model.added_after(seen, latest))
        never = torch.arange(scores.shape[1], device=scores.device) == 0
        scores = scores.masked_fill(never | seen if self.filter_seen else never, -torch.inf)
        return (hidden, scores) if self.k is None else (hidden, *torch.topk(scores, self.k))


class WholeHistory(nn.Module):
    """One history, (T,) items and columns, to the outputs of a :class:`Ranking` with R = 1."""

    ranking: Ranking

    def __init__(self, ranking: Ranking, columns: list[str]):
        super().__init__()
        self.ranking, self.columns = ranking, columns

    def forward(self, items: Tensor, *columns: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        model, n_recent = self.ranking.model, self.ranking.model.n_recent
        borders = torch.tensor([0, 1]) * items.shape[0]
        hidden = model.encode(items, borders, last_tokens(borders), **dict(zip(self.columns, columns, strict=True)))
        seen = torch.zeros(1, model.n_items, dtype=torch.bool).scatter(1, items[None], True)
        latest = F.pad(items, (n_recent, 0))[items.shape[0] :].flip(0)[None]
        return self.ranking(hidden, seen, latest)


class Step(nn.Module):
    """The next item (R,) of R histories, its columns, and their state, to the outputs and the new state.

    The state are the model's tensors, complex ones as pairs, then ``seen`` and ``latest`` where scores need them.
    """

    ranking: Ranking

    def __init__(self, ranking: Ranking, columns: list[str]):
        super().__init__()
        self.ranking, self.columns = ranking, columns
        model = ranking.model
        borders = torch.tensor([0, 1], dtype=torch.int32)
        given = {name: torch.zeros(1, dtype=torch.float64) for name in columns}
        self._state = model.prefill(torch.ones(1, dtype=torch.int64), borders, **given)[1]
        self._complex = [each.is_complex() for each in leaves(self._state)]

    def start(self, rows: int) -> dict[str, Tensor]:
        """The state before the first item, by name: zeros, and NaN for a time."""
        model, parts = self.ranking.model, list(leaves(self._state))
        names = [f"state_{number}" for number in range(len(parts))]
        found = {name: _real(part.new_zeros(rows, *part.shape[1:])) for name, part in zip(names, parts, strict=True)}
        if self.columns:
            found["state_0"].fill_(math.nan)
        if self.ranking.keeps_seen:
            found["seen"] = torch.zeros(rows, model.n_items, dtype=torch.bool)
        if model.n_recent:
            found["latest"] = torch.zeros(rows, model.n_recent, dtype=torch.int64)
        return found

    def forward(self, item: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        columns = dict(zip(self.columns, others, strict=False))
        state = list(others[len(columns) :])
        own, kept = state[: len(self._complex)], state[len(self._complex) :]
        if columns:  # the state begins with the time of the last item
            (time,) = columns.values()
            own[0] = torch.where(own[0].isnan(), time, own[0])
        parts = [torch.view_as_complex(each) if pair else each for each, pair in zip(own, self._complex, strict=True)]
        hidden, after = self.ranking.model.step(item, like(self._state, iter(parts)), **columns)
        seen, latest = self._read(item, kept)
        kept = [*([seen] if self.ranking.keeps_seen else []), *([latest] if self.ranking.model.n_recent else [])]
        return (*self.ranking(hidden, seen, latest), *map(_real, leaves(after)), *kept)

    def _read(self, item: Tensor, kept: list[Tensor]) -> tuple[Tensor, Tensor]:
        """``seen`` and ``latest`` after the item."""
        model = self.ranking.model
        seen = kept[0].scatter(1, item[:, None], True) if self.ranking.keeps_seen else item.new_zeros(1, 1).bool()
        latest = torch.cat([item[:, None], kept[-1]], 1)[:, :-1] if model.n_recent else item[:, None][:, :0]
        return seen, latest


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def check_graphs(recommender: Recommender) -> None:
    """Raise InputError for a model that no graph can hold."""
    model = recommender.model
    if isinstance(model, CountingRecommender):
        raise InputError(
            f"{type(model).__name__} counts and has no layers, so that a graph of it would be its table of counts; "
            "torch and onnx are for models that are trained"
        )
    if not isinstance(model, PackedSequentialRecommender) or not model.step_is_fixed:
        raise InputError(
            f"{type(model).__name__} reads titles, whose lengths differ, and a graph has one; torch and onnx are for "
            "models that read ids"
        )
    if len(recommender.columns) > 1 or (recommender.columns and model.columns[0].name != "time"):
        raise InputError("a graph reads items and their times alone; the model reads other columns, too")


def graphs(recommender: Recommender, k: int | None) -> tuple[list[Graph], str]:
    """The functions of a model.

    Args:
        recommender: the model, on the CPU.
        k: see :class:`Ranking`.

    Returns:
        The graphs of a whole history, and of a step where the model keeps a state; and why there is none, or nothing.
    """
    check_graphs(recommender)
    model = recommender.model
    columns = [column.name for column in model.columns]
    ranking = Ranking(model, recommender.filter_seen, k).eval()
    whole = {"items": torch.tensor([1, 2, 1, 3, 2]) % (model.n_items - 1) + 1}
    whole |= {name: torch.arange(5, dtype=torch.float64) for name in columns}
    found = [Graph("history", WholeHistory(ranking, columns), whole, ranking.outputs, dict.fromkeys(whole, 1))]
    if not model.streams:
        return found, model._no_state
    if recommender._longest:
        return found, "with MAX_ITEM_LIST_LENGTH each new item changes what is read of those before"
    with exportable():
        step = Step(ranking, columns).eval()
    rows = 2
    given = {"item": torch.tensor([1, 2])} | {name: torch.zeros(rows, dtype=torch.float64) for name in columns}
    state = step.start(rows)
    outputs = [*ranking.outputs, *(f"new_{name}" for name in state)]
    return [*found, Graph("step", step, given | state, outputs, dict.fromkeys(given | state, 1))], ""
