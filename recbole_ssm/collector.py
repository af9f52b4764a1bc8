"""What an evaluation needs of its batches, as RecBole collects it."""

from __future__ import annotations

import torch
from recbole.evaluator import Collector


class EvaluationCollector(Collector):
    """RecBole's, which takes all that it has for tensors, where metrics such as GiniIndex need counts as well."""

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
