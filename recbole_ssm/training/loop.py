"""The loop over the batches of an epoch, for models of this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from recbole.data.interaction import Interaction
from torch import Tensor, autocast
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_

from recbole_ssm.data.transfer import on_device
from recbole_ssm.training.hooks.hook import Epoch

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer


def train_batches(trainer: HookedTrainer, epoch: Epoch) -> None:
    """Do what RecBole's loop does, to the last bit, but never wait for a GPU.

    RecBole reads the loss of each batch twice, and each time the GPU has nothing to do until the next batch is there.

    Args:
        trainer: with the model and its optimiser.
        epoch: with the batches.
    """
    trainer.model.train()
    scaler = GradScaler(trainer.device.type, enabled=trainer.enable_scaler)
    for batch in epoch.batches:
        there = on_device(batch, trainer.device)
        if trainer.recorded is None:
            _compute(trainer, epoch.loss_func or trainer.model.calculate_loss, there, scaler)
        else:
            trainer._check_nan(trainer.recorded(there))
        scaler.step(trainer.optimizer)
        scaler.update()


def _compute(
    trainer: HookedTrainer, loss_of: Callable[[Interaction], Tensor], batch: Interaction, scaler: GradScaler
) -> None:
    """The gradients of a batch."""
    trainer.optimizer.zero_grad()
    with autocast(trainer.device.type, enabled=trainer.enable_amp):
        loss = loss_of(batch)
    trainer._check_nan(loss)
    scaler.scale(loss).backward()
    if trainer.clip_grad_norm:
        clip_grad_norm_(trainer.model.parameters(), **trainer.clip_grad_norm)
