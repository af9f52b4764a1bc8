"""PCTM: transitions over several distances, smoothed.

RecSys 2026, "Do Sequential Recommendation Benchmarks Really Require Higher-Order Sequence Modelling?"
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_ssm.model.counting import RECENT_ITEMS, WINDOW, CountingRecommender
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.ops.transitions import SparseRows


class PCTM(CountingRecommender):
    """``y(a) = sum_j w_j log P(a | h_j) + lambda log(frequency of a)``, where the w_j sum to 1.

    ``C = sum_d d^-distance_power distance_base^(d-1) N_d``, where N_d[b, a] counts item a exactly d places after b, and
    ``P(a | b) = (C[b, a] + s) / (sum over c of C[b, c] + n s)`` with the smoothing s of n items (the paper's tau is
    n s). Of log P only ``log(1 + C[b, a] / s)`` is kept: the rest is the same for all a.
    """

    keys = (
        WINDOW,
        Key("distance_power", float, "weight of a distance d is d to the power of minus this", 0.5, low=0),
        Key("distance_base", float, "and it is multiplied by this to the power of d - 1", 1.0, low=0, high=1),
        Key("smoothing", float, "count that is added to each pair of items", 1.0, low=1e-6),
        Key(
            "history_base",
            float,
            "the j-th latest item, from 0, has this to the power of j as weight",
            0.6,
            low=0,
            high=1,
        ),
        RECENT_ITEMS,
        Key(
            "recent_share",
            float,
            "weight of the recent_items together; the others share the rest evenly",
            0.8,
            low=0,
            high=1,
        ),
        Key("popularity_weight", float, "lambda: weight of the log of an item's frequency", 0.0),
    )

    def __init__(self, config: Configuration, dataset: Any):
        self._base, self._recent, self._share = (
            config[key] for key in ("history_base", "recent_items", "recent_share")
        )
        self._popularity_weight, self._smoothing = config["popularity_weight"], config["smoothing"]
        super().__init__(config, dataset)

    def distance_weights(self, config: Configuration) -> Tensor:
        """Weights of the distances 1 to ``window``."""
        distance = torch.arange(1.0, config["window"] + 1)
        return distance ** -config["distance_power"] * config["distance_base"] ** (distance - 1)

    def evidence(self, counts: SparseRows) -> SparseRows:
        """``log(1 + C / s)``."""
        return counts._replace(values=torch.log1p(counts.values / self._smoothing))

    def history_weights(self, age: Tensor, length: Tensor) -> Tensor:
        """w, whose sum over each history is 1."""
        recent = length if self._recent is None else length.clamp(max=self._recent)
        weights = self._base**age / _sum_of_powers(self._base, recent)
        if self._recent is None:
            return weights
        others = (length - recent).clamp(min=1)
        share = torch.where(length > recent, self._share, 1.0)
        return torch.where(age < recent, weights * share, (1.0 - share) / others)

    def prior(self) -> Tensor:
        """The popularity."""
        return self._popularity_weight * self.frequency.clamp(min=1).float().log()


def _sum_of_powers(base: float, n: Tensor) -> Tensor:
    """``1 + base + ... + base^(n - 1)``."""
    return n.float() if base == 1 else (1 - base ** n.float()) / (1 - base)
