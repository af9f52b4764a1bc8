"""A checkpoint in use, with all that belongs to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.serving.service.item_file import ItemFile, Search
from recbole_ssm.serving.service.popular import most_popular
from recbole_ssm.serving.states import States


class InUse:
    """A recommender, and what the service has made of it and of the files beside it.

    Args:
        recommender: the model.
        of_items: titles and categories.
        popular: by item how often it was had of late; None for what the checkpoint knows.

    Attributes:
        recommender: the model.
        fingerprint: stands for weights and items: under another one states are of no use.
        states: of sessions; None for a model that reads whole histories.
        popular: numbers and counts of popular items, the most popular first.
        search: finds items.
    """

    def __init__(self, recommender: Recommender, of_items: ItemFile, popular: Mapping[str, float] | None = None):
        self.recommender, self._of_items = recommender, of_items
        self.fingerprint = fingerprint(recommender)
        self.states = States(recommender) if recommender.model.streams and not recommender._longest else None
        counts = {} if popular is None else popular
        self.popular = [each for each in most_popular(counts) if each[0] in recommender]
        first = dict.fromkeys(item for item, _ in self.popular)
        self.search = Search([*first, *(item for item in recommender.items[1:] if item not in first)], of_items.titles)
        self._of_category = self._by_category()

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


def fingerprint(recommender: Recommender) -> str:
    """A hash of a model's weights and of the names of its items, 16 hexadecimal digits."""
    digest = hashlib.blake2b("\0".join(recommender.items).encode(errors="surrogatepass"), digest_size=8)
    for name, tensor in sorted(recommender.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
