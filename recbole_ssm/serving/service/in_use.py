"""A checkpoint in use, with all that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_ssm.config.keys import keys_of
from recbole_ssm.errors import InputError
from recbole_ssm.model.time_gaps import TIME
from recbole_ssm.serving.index import AUTO, ItemIndex
from recbole_ssm.serving.nearest import KINDS
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.service.item_file import ItemFile, Search
from recbole_ssm.serving.states import States
from recbole_ssm.system.plain import plain
from recbole_ssm.system.state_file import checksum


class InUse:
    """A recommender, and what the service has made of it and of the files beside it.

    Args:
        recommender: the model.
        of_items: titles and categories.
        popular: by item how often it was had of late; None for what the checkpoint knows.
        index: file of an index of the items, or the kind of one that is built here; None for none.

    Attributes:
        recommender: the model.
        fingerprint: stands for the checkpoint, see :func:`fingerprint`: under another one states are of no use.
        states: of sessions; None for a model that reads whole histories.
        index: of the items; None where all are scored.
        counts: (n_items,) how often each was had of late; 0 where nobody knows.
        search: finds items.
    """

    def __init__(
        self,
        recommender: Recommender,
        of_items: ItemFile,
        popular: Mapping[str, float] | None = None,
        index: Path | None = None,
    ):
        self.recommender, self._of_items = recommender, of_items
        if others := [column.name for column in recommender.model.columns if column.source != TIME.source]:
            raise InputError(f"the model reads {', '.join(others)} beside items and times, which requests do not have")
        self.fingerprint = fingerprint(recommender)
        self.states = States(recommender) if recommender.model.streams and not recommender._longest else None
        if index is not None and self.states is None:
            raise InputError("--index is for models that keep a state; this one reads whole histories")
        self.index = None if index is None else _index(index, recommender)
        self.counts = self._counts(popular)
        self._order = np.argsort(-self.counts, kind="stable")
        self.search = Search([recommender.items[number] for number in self._order if number], of_items.titles)
        self._of_category = self._by_category()

    def _counts(self, popular: Mapping[str, float] | None) -> NDArray[np.float32]:
        """How often each item (n_items,) was had of late; 0 where nobody knows."""
        counts = np.zeros(len(self.recommender.items), np.float32)
        if popular is None:
            known = self.recommender.popularity
            return counts if known is None else known.numpy()
        for item, count in popular.items():
            for number in self.numbers([item]):
                counts[number] = count
        return counts

    def popular(self) -> Iterator[tuple[int, float]]:
        """Numbers and counts of the items that somebody has had, the most popular first."""
        for number in map(int, self._order):
            if number and self.counts[number] <= 0:
                return
            if number:
                yield number, float(self.counts[number])

    def _by_category(self) -> dict[str, Tensor]:
        """The numbers (n,) of the items of each category."""
        found: dict[str, list[int]] = {}
        for item, categories in self._of_items.categories.items():
            for number in self.numbers([item]):
                for category in categories:
                    found.setdefault(category, []).append(number)
        return {category: torch.tensor(numbers) for category, numbers in found.items()}

    def numbers(self, items: Iterable[str]) -> list[int]:
        """The numbers of items; those that the model does not know are passed over."""
        return self.recommender.names.numbers(items, skip_unknown=True)

    def number(self, item: str) -> int | None:
        """The number of an item; None for one that the model does not know."""
        return self.recommender.names.number(item)

    def allowed(self, candidates: Sequence[str] | None, categories: Sequence[str] | None) -> Tensor | None:
        """The numbers (n,) of the items that are among the candidates and in one of the categories; None for all."""
        named = None if candidates is None else torch.tensor(self.numbers(candidates), dtype=torch.int64)
        if categories is None:
            return named
        there = [self._of_category[category] for category in categories if category in self._of_category]
        fits = torch.cat(there).unique() if there else torch.zeros(0, dtype=torch.int64)
        return fits if named is None else named[torch.isin(named, fits)]

    def described(self, item: str, score: float | None = None) -> dict[str, object]:
        """An item as the service shows it; what is not known is left out."""
        found: dict[str, object] = {"item": item}
        if score is not None:
            found["score"] = score
        if item in self._of_items.titles:
            found["title"] = self._of_items.titles[item]
        if item in self._of_items.categories:
            found["categories"] = self._of_items.categories[item]
        return found


def is_kind(index: Path) -> bool:
    """Whether an index is given by its kind, and not by a file."""
    return str(index) in (AUTO, *KINDS)


def _index(given: Path, recommender: Recommender) -> ItemIndex:
    return ItemIndex.build(recommender, str(given)) if is_kind(given) else ItemIndex.load(given, recommender)


def fingerprint(recommender: Recommender) -> str:
    """A hash of all that a recommendation follows from, 16 hexadecimal digits.

    These are the names of the items, the model's settings and weights, and what its checkpoint keeps beside them, such
    as counts.
    """
    model, stored = recommender.model, recommender._stored["config"]
    settings = {key.name: plain(stored.get(key.name)) for key in keys_of(type(model))}
    parts = [str(stored["model"]), settings, list(recommender.items), dict(model.state_dict()), model.other_parameter()]
    return checksum(parts)[:16]
