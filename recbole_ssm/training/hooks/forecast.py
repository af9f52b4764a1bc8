"""How long a training will take, said early where that is long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from recbole_ssm.system.console_log import tell
from recbole_ssm.training.hooks.history import duration
from recbole_ssm.training.hooks.hook import Epoch, Hook

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer

_AFTER = 20.0
"""Seconds of the first epoch after which its length can be told."""

_LONG = 600.0
"""Seconds of training of which nothing is said."""


class Forecast(Hook):
    """Tells once, within the first epoch, how long the epochs will take, where that is more than ten minutes."""

    def __init__(self, trainer: HookedTrainer):
        self._trainer = trainer
        self._begun: float | None = None
        """When the second batch of the first epoch began, as the first one takes longer; None once it is told."""
        self._first = 0

    @contextmanager
    def around_epoch(self, epoch: Epoch) -> Iterator[None]:
        self._begun, self._first = None, 0
        yield

    def between_batches(self, done: int) -> None:
        trainer = self._trainer
        if trainer.epoch is None or trainer.history or not trainer.verbose:
            return
        now = perf_counter()
        if not self._first and done:
            self._begun, self._first = now, done
        elif self._begun is not None and now - self._begun >= _AFTER:
            of_epoch = (now - self._begun) / (done - self._first) * len(trainer.epoch.batches)
            self._begun, whole = None, of_epoch * trainer.epochs
            budget = trainer.config.time_budget
            if budget and budget < whole:
                whole, rest = budget, f"; time_budget ends the training after {duration(budget)}"
            else:
                of_all = f", all {trainer.epochs} take {duration(whole)}" if trainer.epochs > 1 else ""
                rest = f"{of_all}, and validations besides"
            if whole >= _LONG:
                tell(f"an epoch takes about {duration(of_epoch)}{rest}")
