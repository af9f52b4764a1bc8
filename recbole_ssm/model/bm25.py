"""The titles that are most like the last one of a history, by BM25: what a model that reads texts must beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_ssm.language.bm25 import BM25
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.packed_input import PackedRecommender
from recbole_ssm.model.text import ITEM_TEXT, texts_of
from recbole_ssm.ops.packing import as_lists

BM25_KEYS = (
    Key("bm25_k1", float, "how much a word of a query counts that stands in a title again", 1.2, low=0),
    Key("bm25_b", float, "how much less the words of a long title count", 0.75, low=0, high=1),
)

_TIE = 1e-4
"""What the most popular item has more than one that nobody has had."""


def counts_of(dataset: Any) -> Tensor:
    """How often each item is in a training split, (n_items,) float32; zeros for what stands for a dataset."""
    counts = torch.zeros(dataset.item_num)
    if hasattr(dataset, "inter_matrix"):
        counts += torch.from_numpy(dataset.inter_matrix("csr").sum(0)).flatten()
    return counts


class BM25Recommender(PackedRecommender):
    """Scores by BM25 of each item's text with the latest ones of a history as the query.

    Items that fit equally well are in the order of their popularity, and those of the history are last.

    Args:
        config: the configuration.
        dataset: the training split, or for a model from a checkpoint what stands for it.
    """

    is_trained = False
    input_type = InputType.POINTWISE  # RecBole asks for one; no negatives are drawn

    keys = (ITEM_TEXT, *BM25_KEYS, Key("history_items", int, "latest items whose texts are the query", 1, low=1))

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset)
        self.nothing = nn.Parameter(torch.zeros(1))  # an optimiser needs a parameter
        self._settings = config["bm25_k1"], config["bm25_b"]
        self._history_items = config["history_items"]
        with torch.device("cpu"):  # also while the sizes of weights are compared on none
            self._take(texts_of(config, dataset), counts_of(dataset))

    def _take(self, texts: list[str], counts: Tensor) -> None:
        self.texts, self.counts = texts, counts
        self._index = BM25(texts[1:], *self._settings)
        self._tie = _TIE * counts / counts.max().clamp(min=1)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """0: there is nothing to learn."""
        return 0 * self.nothing.sum()  # a gradient of 0, so that it stays

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores (S, n_items) of every item after each history."""
        histories = as_lists(*self.packed(interaction))
        queries = [" ".join(self.texts[item] for item in each[-self._history_items :]) for each in histories]
        scores = torch.nn.functional.pad(self._index.scores(queries), (1, 0)) + self._tie
        for row, each in zip(scores, histories, strict=True):
            row[each] -= row.max() + 1
        return scores.to(self.nothing.device)

    def other_parameter(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights: texts, and how popular items are."""
        return {"texts": "\n".join(self.texts), "counts": self.counts}

    def load_other_parameter(self, kept: Mapping[str, Any] | None) -> None:
        """Take over what a checkpoint has kept.

        Args:
            kept: from :meth:`other_parameter`.

        Raises:
            ValueError: it is not of a model with so many items.
        """
        texts, counts = str((kept or {}).get("texts")).split("\n"), (kept or {}).get("counts")
        if len(texts) != self.n_items or not isinstance(counts, Tensor) or counts.shape != (self.n_items,):
            raise ValueError("it does not hold the texts and counts of the items")
        self._take(texts, counts.cpu().float())
