"""Training and evaluation by several processes, with the result that one alone would have with the same batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recbole_ssm.config.config import Config
from recbole_ssm.data.shares import SHARE
from recbole_ssm.system.distributed import all_gather, rank, world_size
from recbole_ssm.training.collector import EvaluationCollector
from recbole_ssm.training.hooks.hook import Epoch, Hook

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import EvaluationTrainer, HookedTrainer


class Sharing(Hook):
    """Divides the work among processes. With one process RecBole trains and evaluates as it is.

    Each process takes the loss of its part of every batch, and DistributedDataParallel averages the gradients. Each
    process scores some of the evaluation batches. Then an all-gather gives every process the rankings of all batches,
    in their order, and each computes all metrics of them.
    """

    def __init__(self, trainer: HookedTrainer | EvaluationTrainer):
        self._turn = -1
        self._loss: DistributedDataParallel | None = None
        trainer.eval_collector = EvaluationCollector(trainer.config)
        if world_size() > 1:
            trainer.eval_collector = _SharedCollector(trainer.config)
            self._loss = DistributedDataParallel(_WeightedLoss(trainer.model), find_unused_parameters=True)

    @contextmanager
    def around_epoch(self, epoch: Epoch) -> Iterator[None]:
        epoch.loss_func = epoch.loss_func or self._loss
        yield
        if isinstance(epoch.loss, tuple):
            epoch.loss = tuple(sum(parts) / world_size() for parts in zip(*all_gather(epoch.loss), strict=True))

    @contextmanager
    def around_evaluation(self, batches: int) -> Iterator[None]:
        self._turn = -1
        yield

    def scores_batch(self) -> bool:
        self._turn += 1
        return self._turn % world_size() == rank()


class _WeightedLoss(nn.Module):
    """The loss of a batch as a module's output, which is what DistributedDataParallel needs."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, interaction: Interaction) -> Tensor | tuple[Tensor, ...]:
        loss, share = self.model.calculate_loss(interaction), interaction[SHARE][0]
        return tuple(part * share for part in loss) if isinstance(loss, tuple) else loss * share


class _SharedCollector(EvaluationCollector):
    """Keeps the batches of this process apart, and in the end has those of all processes in their order."""

    def __init__(self, config: Config):
        super().__init__(config)
        self._batches: list[dict[str, Tensor]] = []

    def eval_batch_collect(
        self, scores_tensor: Tensor | None, interaction: Any, positive_u: Any, positive_i: Any
    ) -> None:
        if scores_tensor is None:
            return
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        collected = self.data_struct._data_dict
        names = [name for name in collected if name.startswith("rec.") or name == "data.label"]
        self._batches.append({name: collected.pop(name).cpu() for name in names})

    def get_data_struct(self) -> Any:
        parts, self._batches = all_gather(self._batches), []
        in_order = [part[turn] for turn in range(max(map(len, parts))) for part in parts if turn < len(part)]
        for name in in_order[0] if in_order else ():
            self.data_struct.set(name, torch.cat([batch[name] for batch in in_order]))
        return super().get_data_struct()
