"""The losses of batches on their way from the device to the hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

EVERY = {"cpu": 1, "cuda": 256}
"""Losses are read after so many batches, by type of device. Reading one waits until a GPU has computed it."""


class BatchLoss(NamedTuple):
    """The loss of one batch, known to the host."""

    value: float
    """The mean over the batch's targets."""
    targets: float
    """How many targets this process has of the batch."""
    weight: float
    """What the loss is multiplied by to be the sum over these targets."""


class Losses:
    """Keeps losses on a GPU, so that the host can go on with the next batch, and tells them some batches later.

    On a CPU each loss is told at once, before its gradients are computed (:data:`EVERY`).

    Args:
        tell: gets each loss, in the order of the batches.
        every: after how many batches losses are read.
    """

    def __init__(self, tell: Callable[[BatchLoss], None], every: int):
        self._tell, self._every = tell, every
        self._kept: list[tuple[Tensor, float, float]] = []

    def add(self, loss: Tensor, targets: float, weight: float) -> None:
        """Take the loss () or (1,) of the batch that comes next, with what :class:`BatchLoss` says of it."""
        self._kept.append((loss.detach().reshape(()), targets, weight))
        if len(self._kept) >= self._every:
            self.read()

    def read(self) -> None:
        """Tell all losses that are kept. Called at the end of an epoch and before a checkpoint is written."""
        kept, self._kept = self._kept, []
        if kept:
            values = torch.stack([loss for loss, _, _ in kept]).tolist()
            for value, (_, targets, weight) in zip(values, kept, strict=True):
                self._tell(BatchLoss(value, targets, weight))
