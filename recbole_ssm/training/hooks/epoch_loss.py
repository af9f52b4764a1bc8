"""The loss of an epoch, as the mean over its targets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recbole_ssm.system.distributed import all_gather, world_size
from recbole_ssm.training.hooks.hook import Epoch, Hook
from recbole_ssm.training.losses import BatchLoss


class EpochLoss(Hook):
    """Sums up the losses of the batches. Batches may hold more or fewer targets, so each counts by its targets."""

    def __init__(self) -> None:
        self._of_batches = self._of_targets = self._targets = 0.0

    @contextmanager
    def around_epoch(self, epoch: Epoch) -> Iterator[None]:
        self._of_batches = self._of_targets = self._targets = 0.0
        yield

    def after_loss(self, loss: BatchLoss) -> None:
        self._of_batches += loss.value
        self._of_targets += loss.value * loss.weight
        self._targets += loss.targets

    def mean(self) -> float:
        """Mean over the targets that this epoch has had so far, in all processes."""
        total, targets = map(sum, zip(*all_gather((self._of_targets, self._targets)), strict=True))
        return total / targets if targets else 0.0

    def state(self, done: int) -> dict[str, Any]:
        of_targets = all_gather((self._of_targets, self._targets)) if done else [(0.0, 0.0)]
        return {
            "loss": sum(all_gather(self._of_batches)) / world_size() if done else 0.0,
            "loss_of_targets": [sum(each) / world_size() for each in zip(*of_targets, strict=True)],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._of_batches = state["loss"]
        self._of_targets, self._targets = map(float, state.get("loss_of_targets", (0.0, 0.0)))
