"""Which items may be recommended, and the best of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.data.transfer import moved
from recbole_ssm.errors import InputError
from recbole_ssm.model.packed_input import PackedRecommender
from recbole_ssm.serving.names import ItemNames

Items: TypeAlias = Iterable[str] | Tensor
"""Names of items, or their numbers (n,) int64 in the model."""

_FEW = 32
"""If at most one score in so many is wanted, the others are not computed."""


class Choice(NamedTuple):
    """Which items may be recommended after each of S histories, by their numbers."""

    candidates: list[Tensor | None]
    """(n,) int64 each, the items that alone may be recommended; None for all."""
    exclude: list[Tensor | None]
    """(n,) int64 each, items that may not; None for none."""

    def of(self, rows: Sequence[int]) -> Choice:
        """Those of some histories."""
        return Choice([self.candidates[row] for row in rows], [self.exclude[row] for row in rows])

    def without(self, seen: Sequence[Sequence[int]]) -> Choice:
        """The same, where items ``seen`` of each history may not be recommended either."""
        items = [torch.tensor(each, dtype=torch.int64) for each in seen]
        pairs = zip(self.exclude, items, strict=True)
        return Choice(self.candidates, [more if one is None else torch.cat([one, more]) for one, more in pairs])

    def left_out(self, n_items: int) -> list[Tensor]:
        """Rows (n,) and items (n,) that may not be recommended."""
        others = [None if each is None else _others(each, n_items) for each in self.candidates]
        return [torch.cat(parts) for parts in zip(_pairs(others), _pairs(self.exclude), strict=True)]

    def left_out_on(self, device: torch.device, n_items: int) -> Sequence[Tensor]:
        """:meth:`left_out` on a device."""
        return moved(self.left_out(n_items), device)

    def allowed(self, n_items: int) -> Tensor | None:
        """Which items (n_items,) bool may be recommended after the only history; None for all."""
        (candidates,), (exclude,) = self
        if candidates is None and exclude is None:
            return None
        found = torch.ones(n_items, dtype=torch.bool)
        if candidates is not None:
            found = torch.zeros_like(found).index_fill(0, candidates, True)
        return found if exclude is None else found.index_fill(0, exclude, False)


def read_choice(
    names: ItemNames,
    n_items: int,
    candidates: Items | Iterable[Items | None] | None,
    exclude: Items | Iterable[Items | None] | None,
    histories: int,
    *,
    skip_unknown: bool = False,
) -> Choice:
    """What may be recommended, as numbers.

    Args:
        names: of the model's items.
        n_items: how many numbers there are, with that of the padding.
        candidates: names of the items that alone may be recommended, for all histories; or a list of such names for
            each history, with None for all items; None for all items.
        exclude: the same of items that may not be recommended.
        histories: how many there are.
        skip_unknown: pass over names that are not known.

    Returns:
        The numbers; those for all histories are looked up once.

    Raises:
        InputError: an item is unknown, or there are too few or too many lists.
    """

    def numbers(what: str, items: Items) -> Tensor:
        if not isinstance(items, Tensor):
            items = torch.tensor(names.numbers(items, skip_unknown=skip_unknown, what=what), dtype=torch.int64)
        elif items.dtype != torch.int64 or items.dim() != 1 or bool(((items < 1) | (items >= n_items)).any()):
            raise InputError(f"{what}: numbers of items are an int64 tensor (n,) of 1 to {n_items - 1}")
        return items.cpu().unique()

    def read(what: str, given: Any) -> list[Tensor | None]:
        if given is None:
            return [None] * histories
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise InputError(f"{what} are names of items, or a list of names for each history, and not {given!r}")
        given = given if isinstance(given, Tensor) else list(given)
        if isinstance(given, Tensor) or all(isinstance(each, str) for each in given):
            return [numbers(what, given)] * histories
        if len(given) != histories:
            raise InputError(f"{what} must be one list for all histories, or {histories} lists, but are {len(given)}")
        return [None if items is None else numbers(what, items) for items in given]

    return Choice(read("candidates", candidates), read("exclude", exclude))


def best_items(
    model: PackedRecommender, batch: Interaction, choice: Choice, k: int
) -> Iterable[tuple[list[float], list[int]]]:
    """The best items after each history of a batch.

    Args:
        model: gives the scores.
        batch: S histories, packed.
        choice: which items may be recommended.
        k: how many are wanted.

    Returns:
        For each history scores and numbers of items, the best first; a score of -inf is of an item that may not be
        recommended.
    """
    rows, items = _pairs(choice.candidates)
    if None not in choice.candidates and _FEW * len(items) <= len(choice.candidates) * model.n_items:
        scores, numbers = _of_candidates(model, batch, choice, rows, items)
    else:
        device = batch[model.ITEM_SEQ].device
        scores = model.rank_best(batch, k, partial(choice.left_out_on, device, model.n_items))
        return best_scores(scores, choice, k)
    best = torch.topk(scores, min(k, scores.shape[1]))
    return zip(best.values.tolist(), numbers.gather(1, best.indices).tolist(), strict=True)


def best_scores(scores: Tensor, choice: Choice, k: int) -> Iterable[tuple[list[float], list[int]]]:
    """As :func:`best_items`, of the scores (S, n_items) of all items, which are changed."""
    _leave_out(scores, choice)
    best = torch.topk(scores, min(k, scores.shape[1]))
    return zip(best.values.tolist(), best.indices.tolist(), strict=True)


def _leave_out(scores: Tensor, choice: Choice) -> None:
    """Give a score of -inf, in place (S, n_items), to what may not be recommended."""
    scores[:, 0] = -torch.inf
    limited = [row for row, each in enumerate(choice.candidates) if each is not None]
    if limited:
        others = torch.zeros_like(scores, dtype=torch.bool)
        others[limited] = True
        others[tuple(moved(_pairs(choice.candidates), scores.device))] = False
        scores.masked_fill_(others, -torch.inf)
    if any(each is not None for each in choice.exclude):
        scores[tuple(moved(_pairs(choice.exclude), scores.device))] = -torch.inf


def _of_candidates(
    model: PackedRecommender, batch: Interaction, choice: Choice, rows: Tensor, items: Tensor
) -> tuple[Tensor, Tensor]:
    """Scores (S, C) and numbers (S, C) of candidates, with -inf and 0 where a history has fewer."""
    pairs = rows * model.n_items
    excluded = _pairs(choice.exclude)
    kept = ~torch.isin(pairs + items, excluded[0] * model.n_items + excluded[1])
    rows, items = rows[kept], items[kept]
    length = torch.bincount(rows, minlength=len(choice.candidates))
    place = torch.arange(len(rows)) - (length.cumsum(0) - length)[rows]
    rows, items, place = moved([rows, items, place], batch[model.ITEM_SEQ].device)
    asked = Interaction(batch.interaction | {model.ITEM_ID: items, "candidate_seq_idx": rows})
    found = model.predict(asked) if len(items) else torch.zeros(0, device=items.device)
    scores = found.new_full((len(length), int(length.max())), -torch.inf)
    numbers = items.new_zeros(scores.shape)
    scores[rows, place], numbers[rows, place] = found, items
    return scores, numbers


def _others(items: Tensor, n_items: int) -> Tensor:
    return torch.ones(n_items).index_fill(0, items, 0).nonzero()[:, 0]


def _pairs(items: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    """The row and the number of each item, (n,) int64."""
    there = [(row, each) for row, each in enumerate(items) if each is not None]
    if not there:
        return torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    count = torch.tensor([len(each) for _, each in there])
    rows = torch.tensor([row for row, _ in there]).repeat_interleave(count)
    return rows, torch.cat([each for _, each in there])
