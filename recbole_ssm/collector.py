"""What an evaluation needs of its batches, as RecBole collects it."""

from __future__ import annotations

import torch
from recbole.evaluator import Collector


class EvaluationCollector(Collector):
    """RecBole's, which takes all that it has for tensors, where metrics such as GiniIndex need counts as well."""

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        """RecBole's; what is filtered, with a score of minus infinity, is no hit however few other items there are."""
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if "rec.topk" in self.data_struct._data_dict and scores_tensor[positive_u, positive_i].isneginf().any():
            k = max(self.topk)
            hits = self.data_struct.get("rec.topk")[-len(scores_tensor) :, :k]
            hits[scores_tensor.topk(k).values.isneginf().to(hits.device)] = 0

    def get_data_struct(self):
        collected = self.data_struct._data_dict
        counts = {name: value for name, value in collected.items() if not isinstance(value, torch.Tensor)}
        for name in counts:
            del collected[name]
        found = super().get_data_struct()
        for name, value in counts.items():
            found.set(name, value)
            self.data_struct.set(name, value)
        return found
