"""Training and evaluation by several processes: what one alone would do with the same batches."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recbole_ssm.data.shares import SHARE
from recbole_ssm.system.distributed import all_gather, rank, world_size
from recbole_ssm.training.collector import EvaluationCollector


class SharedTraining:
    """Mixed into the trainer that RecBole has for a model. With one process it trains and evaluates as RecBole does.

    Each process takes the loss of its part of every batch, and torch's DistributedDataParallel means the gradients.
    Each evaluates some batches; then all have all rankings, and compute all metrics of them, in the order of one.
    """

    _turn = -1

    def __init__(self, config, model):
        super().__init__(config, model)
        self.eval_collector = EvaluationCollector(config)
        self._shared_loss = None
        if world_size() > 1:
            self.eval_collector = _SharedCollector(config)
            self._shared_loss = DistributedDataParallel(_WeightedLoss(model), find_unused_parameters=True)

    @property
    def loss_of_batch(self):
        """What makes a loss of a batch, unless a model's own way of training has another."""
        return self._shared_loss or self.model.calculate_loss

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, *args, **kwargs):
        if world_size() == 1:
            return super()._train_epoch(train_data, epoch_idx, loss_func, *args, **kwargs)
        loss = super()._train_epoch(train_data, epoch_idx, loss_func or self.loss_of_batch, *args, **kwargs)
        losses = all_gather(loss)
        if isinstance(loss, tuple):
            return tuple(sum(parts) / world_size() for parts in zip(*losses, strict=True))
        return None if loss is None else sum(losses) / world_size()

    def _full_sort_batch_eval(self, batched_data):
        return super()._full_sort_batch_eval(batched_data) if self._is_ours() else (None,) * 4

    def _neg_sample_batch_eval(self, batched_data):
        return super()._neg_sample_batch_eval(batched_data) if self._is_ours() else (None,) * 4

    def _is_ours(self) -> bool:
        """Whether the evaluation batch that comes now is this process's."""
        self._turn += 1
        return self._turn % world_size() == rank()

    def evaluate(self, eval_data, *args, **kwargs):
        self._turn = -1
        return super().evaluate(eval_data, *args, **kwargs)


class _WeightedLoss(nn.Module):
    """The loss of a batch, as DistributedDataParallel wants it: what a module makes of its input."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, interaction):
        loss, share = self.model.calculate_loss(interaction), interaction[SHARE][0]
        return tuple(part * share for part in loss) if isinstance(loss, tuple) else loss * share


class _SharedCollector(EvaluationCollector):
    """One that keeps the batches apart and in the end has those of all processes, in their order."""

    def __init__(self, config):
        super().__init__(config)
        self._batches: list[dict] = []

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        if scores_tensor is None:
            return
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        collected = self.data_struct._data_dict
        names = [name for name in collected if name.startswith("rec.") or name == "data.label"]
        self._batches.append({name: collected.pop(name).cpu() for name in names})

    def get_data_struct(self):
        parts, self._batches = all_gather(self._batches), []
        in_order = [part[turn] for turn in range(max(map(len, parts))) for part in parts if turn < len(part)]
        for name in in_order[0] if in_order else ():
            self.data_struct.set(name, torch.cat([batch[name] for batch in in_order]))
        return super().get_data_struct()
