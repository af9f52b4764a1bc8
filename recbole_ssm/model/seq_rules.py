"""SeqRules: sequential rules, weighted by distance.

Kamehkhosh, Jannach, Ludewig, "A Comparison of Frequent Pattern Techniques and a Deep Learning Method for Session-Based
Recommendation", 2017; with idf and pruning as later studies have them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_ssm.model.counting import RECENT_ITEMS, WINDOW, CountingRecommender
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.ops.transitions import SparseRows

_DECAYS = {
    "inverse": lambda d: 1 / d,
    "quadratic": lambda d: 1 / d**2,
    "log": lambda d: 1 / torch.log10(d + 1.7),
}
"""Weight of a distance d, from 1."""


class SeqRules(CountingRecommender):
    """``R = sum_d g(d) N_d`` up to ``window``, where N_d[b, a] counts item a exactly d places after b."""

    keys = (
        WINDOW,
        Key(
            "distance_decay",
            str,
            "weight g(d) of a distance: 1 / d, 1 / d^2, 1 / log10(d + 1.7)",
            "inverse",
            choices=tuple(_DECAYS),
        ),
        Key("max_rules", int, "strongest rules of each item that are kept; None for all", None, low=1, optional=True),
        Key("idf", bool, "rules of rare items count more: each item's are multiplied by its idf, from 0 to 1", False),
        RECENT_ITEMS,
        Key("history_decay", str, "weight v(j) of the j-th latest item", "quadratic", choices=tuple(_DECAYS)),
    )

    def __init__(self, config: Configuration, dataset: Any):
        self._decay, self._recent = _DECAYS[config["history_decay"]], config["recent_items"]
        self._idf, self._max_rules = config["idf"], config["max_rules"]
        super().__init__(config, dataset)

    def distance_weights(self, config: Configuration) -> Tensor:
        """The weights g of the distances 1 to ``window``."""
        return _DECAYS[config["distance_decay"]](torch.arange(1.0, config["window"] + 1))

    def evidence(self, counts: SparseRows) -> SparseRows:
        """The rules that are kept."""
        if self._idf:
            idf = _idf(self.holders, self.n_sequences)
            counts = counts._replace(values=counts.values * idf[counts.of_row()])
        return counts if self._max_rules is None else counts.strongest(self._max_rules)

    def history_weights(self, age: Tensor, length: Tensor) -> Tensor:
        """The weights v of the latest items, and 0 of those before them."""
        weights = self._decay(age + 1.0)
        return weights if self._recent is None else weights.where(age < self._recent, 0.0)


def _idf(holders: Tensor, n_sequences: int) -> Tensor:
    """Inverse document frequency of items that so many sequences hold, from 0 (most frequent) to 1, (n_items,)."""
    idf = torch.log(n_sequences / holders.clamp(min=1).float())
    known = idf[holders > 0]
    if not len(known) or known.min() == known.max():
        return torch.ones_like(idf)
    return ((idf - known.min()) / (known.max() - known.min())).clamp(0.0, 1.0)
