"""MarkovChain: the items that most often came right after the last one."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.model.counting import CountingRecommender
from recbole_ssm.model.declarations import Configuration
from recbole_ssm.ops.transitions import SparseRows


class MarkovChain(CountingRecommender):
    """First order: the score of item a after item b is ``N_1[b, a] / sum over c of N_1[b, c]``."""

    def distance_weights(self, config: Configuration) -> Tensor:
        """Right after it, and no later."""
        return torch.ones(1)

    def evidence(self, counts: SparseRows) -> SparseRows:
        """The share of each item among those that came next."""
        return counts._replace(values=counts.values / counts.sums()[counts.of_row()])

    def history_weights(self, age: Tensor, length: Tensor) -> Tensor:
        """The last item alone."""
        return (age == 0).float()
