"""What the models have in common that count how often one item follows another, and are not trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.packed_input import PackedRecommender
from recbole_ssm.ops.packing import positions, sequence_index
from recbole_ssm.ops.transitions import SparseRows, check_rows, count_transitions, sum_rows

WINDOW = Key("window", int, "largest distance at which one item follows another", 10, low=1)
RECENT_ITEMS = Key("recent_items", int, "latest items of a history that are weighted apart", None, low=1, optional=True)

_TIE = 1e-6
"""Items without evidence have equal scores. Fractions of this, fixed for each item, order them by chance."""


class CountingRecommender(PackedRecommender):
    """Scores ``y(a) = sum_j v(j) R[h_j, a] + prior(a)`` of item a, where h_j is the j-th latest item of the history.

    A subclass says how distances count, what R is made of the counts, what v is, and perhaps a prior. The counts are
    those of the training sequences; the model is ready when it is made, and its one epoch learns nothing.

    Args:
        config: the configuration.
        dataset: the training split, or for a model from a checkpoint what stands for it.

    Attributes:
        counts: of the transitions, weighted by their distances.
        rows: R.
        frequency: (n_items,) int64, interactions of each item in the training sequences.
        holders: (n_items,) int64, how many training sequences hold each item.
        n_sequences: number of training sequences.
    """

    is_trained = False
    input_type = InputType.POINTWISE  # RecBole asks for one; no negatives are drawn

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset)
        self.nothing = nn.Parameter(torch.zeros(1))  # an optimiser needs a parameter
        with torch.device("cpu"):  # where scipy counts, also while the sizes of weights are compared on none
            self._tie = torch.rand(self.n_items, generator=torch.Generator().manual_seed(0)) * _TIE
            nobody = torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int32)
            tokens, cu_seqlens = dataset.whole_sequences() if hasattr(dataset, "whole_sequences") else nobody
            nothing = torch.zeros(self.n_items, dtype=torch.int64)
            self._take(SparseRows.of_none(self.n_items), nothing, nothing, 0)
            self._distance_weights = self.distance_weights(config)
            self.update(tokens, cu_seqlens, torch.ones_like(tokens, dtype=torch.bool))

    def update(self, tokens: Tensor, cu_seqlens: Tensor, new: Tensor) -> None:
        """See :meth:`PackedRecommender.update`."""
        counts = count_transitions(tokens, cu_seqlens, self._distance_weights, self.n_items, new)
        sequence = sequence_index(cu_seqlens, len(tokens)).long()
        pairs, which = torch.unique(sequence * self.n_items + tokens, return_inverse=True)
        had = torch.zeros(len(pairs), dtype=torch.bool).index_fill(0, which[~new], True)
        holders = torch.bincount(pairs[~had] % self.n_items, minlength=self.n_items)
        begun = int(new[cu_seqlens[:-1].long()].sum())
        frequency = torch.bincount(tokens[new], minlength=self.n_items)
        self._take(
            self.counts.plus(counts), self.frequency + frequency, self.holders + holders, self.n_sequences + begun
        )

    def transitions(self, before: Tensor, after: Tensor) -> Tensor | None:
        """See :meth:`PackedRecommender.transitions`."""
        return self.counts.at(before.cpu(), after.cpu())

    def _take(self, counts: SparseRows, frequency: Tensor, holders: Tensor, n_sequences: int) -> None:
        self.counts, self.frequency, self.holders, self.n_sequences = counts, frequency, holders, n_sequences
        self.rows = self.evidence(counts)

    def distance_weights(self, config: Configuration) -> Tensor:
        """The weight (W,) of the distances 1 to W in the counts."""
        raise NotImplementedError

    def evidence(self, counts: SparseRows) -> SparseRows:
        """The matrix R, made of the counts."""
        raise NotImplementedError

    def history_weights(self, age: Tensor, length: Tensor) -> Tensor:
        """The weights v (T,) of items that have ``age`` (T,) later items in a history of ``length`` (T,) items."""
        raise NotImplementedError

    def prior(self) -> Tensor:
        """What is added to the score of each item, (n_items,), whatever the history."""
        return torch.zeros(self.n_items)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """0: there is nothing to learn."""
        return 0 * self.nothing.sum()  # a gradient of 0, so that it stays

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores (S, n_items) of every item after each history."""
        tokens, cu_seqlens = self.packed(interaction)
        length = cu_seqlens.diff().long().repeat_interleave(cu_seqlens.diff(), output_size=len(tokens))
        age = length - 1 - positions(cu_seqlens, len(tokens))
        weights = self.history_weights(age, length)
        kept = weights > 0
        index, borders = _keep(kept, cu_seqlens)
        scores = sum_rows(self.rows, tokens[index], weights[index], borders)
        return scores + (self.prior() + self._tie).to(scores.device)

    def other_parameter(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights: the counts."""
        counts = {f"counts_{name}": values for name, values in self.counts._asdict().items()}
        return {**counts, "frequency": self.frequency, "holders": self.holders, "n_sequences": self.n_sequences}

    def load_other_parameter(self, kept: Mapping[str, Any] | None) -> None:
        """Take over what a checkpoint has kept.

        Args:
            kept: from :meth:`other_parameter`.

        Raises:
            ValueError: it is not the counts of a model with so many items.
        """
        kept = kept or {}
        try:
            counts = SparseRows(*(kept[f"counts_{name}"].cpu() for name in SparseRows._fields))
            frequency, holders = kept["frequency"].cpu(), kept["holders"].cpu()
            n_sequences = int(kept["n_sequences"])
            check_rows(counts, self.n_items)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("it does not hold counts of transitions") from error
        if any(each.shape != (self.n_items,) or each.dtype != torch.int64 for each in (frequency, holders)):
            raise ValueError("its frequencies are not those of the items")
        self._take(counts, frequency, holders, n_sequences)


def _keep(kept: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """The index of the tokens that are kept (T,), and the borders (S + 1,) of the sequences that are left of them."""
    index = kept.nonzero()[:, 0]
    before = torch.nn.functional.pad(kept.cumsum(0), (1, 0))
    return index, before[cu_seqlens.long()]
