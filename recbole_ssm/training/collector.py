"""What an evaluation collects from its batches for the metrics."""

from __future__ import annotations

from typing import Any

from recbole.data.interaction import Interaction
from recbole.evaluator import Collector
from torch import Tensor


class EvaluationCollector(Collector):
    """RecBole's collector, corrected: it handles values that are no tensors, such as the counts for GiniIndex."""

    def eval_batch_collect(
        self, scores_tensor: Tensor, interaction: Interaction, positive_u: Tensor, positive_i: Tensor
    ) -> None:
        """Collect a batch. A filtered item has the score minus infinity; it is no hit, however few others there are."""
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if scores_tensor.dim() == 1:  # of candidates, for metrics without a ranking such as AUC
            return
        filtered = scores_tensor[positive_u, positive_i].isneginf()
        if not filtered.any():
            return
        if "rec.topk" in self.data_struct._data_dict:
            k = max(self.topk)
            hits = self.data_struct.get("rec.topk")[-len(scores_tensor) :, :k]
            hits[scores_tensor.topk(k).values.isneginf().to(hits.device)] = 0
        if "rec.meanrank" in self.data_struct._data_dict:
            ranks = self.data_struct.get("rec.meanrank")[-len(scores_tensor) :]
            missed = positive_u[filtered].bincount(minlength=len(scores_tensor)).to(ranks)
            _rank_last(ranks, missed, scores_tensor.shape[1])

    def get_data_struct(self) -> Any:
        """Give what the metrics need, and forget the rankings."""
        collected = self.data_struct._data_dict
        counts = {name: value for name, value in collected.items() if not isinstance(value, Tensor)}
        for name in counts:
            del collected[name]
        found = super().get_data_struct()
        for name, value in counts.items():
            found.set(name, value)
            self.data_struct.set(name, value)
        return found


def _rank_last(ranks: Tensor, missed: Tensor, n_items: int) -> None:
    """Rank filtered targets right after all ranked items. RecBole ranks them among all other filtered items.

    Args:
        ranks: (S, 3) sum of the targets' ranks, number of ranked items and number of targets; changed in place.
        missed: (S,) how many targets are filtered.
        n_items: number of scores in a row.
    """
    ranked = ranks[:, 1].clone()
    ranks[:, 0] -= missed * (ranked + 1 + n_items) / 2
    ranks[:, 0] += missed * ranked + missed * (missed + 1) / 2
    ranks[:, 1] += missed
