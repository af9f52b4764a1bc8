"""How far a training is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from recbole_ssm.training.hooks.history import seconds_of
from recbole_ssm.training.hooks.hook import Hook, Validation

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer


class Progress(Hook):
    """Tells ``watch``, before each batch and each validation, what share of the training is done, and that in words."""

    def __init__(self, trainer: HookedTrainer, watch: Callable[[float, str], None]):
        self._trainer, self._watch = trainer, watch
        self._share, self._words = 0.0, ""

    def between_batches(self, done: int) -> None:
        trainer = self._trainer
        if trainer.epoch is None:
            return
        index, within = trainer.epoch.index, min(done / max(len(trainer.epoch.batches), 1), 1.0)
        share, budget = (index + within) / trainer.epochs, trainer.config.time_budget
        if budget is not None:
            share = max(share, seconds_of(trainer.history) / budget)
        self._share = max(self._share, min(share, 1.0))  # it is also asked after the last epoch
        self._words = f"epoch {min(index + 1, trainer.epochs)}/{trainer.epochs}"
        self._watch(self._share, self._words)

    @contextmanager
    def around_validation(self, validation: Validation) -> Iterator[None]:
        self._watch(self._share, f"{self._words}, validating")
        yield
