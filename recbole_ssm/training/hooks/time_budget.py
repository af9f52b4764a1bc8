"""``time_budget``: trainings that end by the clock, so that models can be compared at equal cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from recbole_ssm.errors import InputError
from recbole_ssm.system.console_log import tell
from recbole_ssm.system.distributed import all_reduce_max, broadcast
from recbole_ssm.training.hooks.history import seconds_of
from recbole_ssm.training.hooks.hook import Epoch, Fit, Hook

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer


class _BudgetSpent(Exception):
    """No further epoch is begun."""


class TimeBudget(Hook):
    """Ends the training after the first epoch that ends after ``time_budget`` seconds of training and validation.

    A budget that is too small for one epoch is an error, as soon as that can be told. Of several processes, each with a
    clock of its own, all end together.
    """

    def __init__(self, trainer: HookedTrainer, budget: float):
        self._trainer, self._budget = trainer, budget
        self._begun: list[float] | None = None
        """When each batch of the first epoch began; None in all others."""

    @contextmanager
    def around_fit(self, fit: Fit) -> Iterator[None]:
        try:
            yield
        except _BudgetSpent:
            tell(f"time_budget: {self._budget} seconds are spent")
            if self._trainer.config.lr_schedule == "one_cycle":
                done = len(self._trainer.history)
                self._trainer.logger.warning(
                    f"the training ends after {done} of {self._trainer.epochs} epochs, before its learning rate has "
                    f"fallen: with epochs: {done} it would end with a low rate"
                )

    @contextmanager
    def around_epoch(self, epoch: Epoch) -> Iterator[None]:
        history = self._trainer.history
        spent = broadcast(seconds_of(history) >= self._budget)
        if history and spent:
            raise _BudgetSpent
        self._begun, self._batches = None if history else [], len(epoch.batches)
        try:
            yield
        finally:
            self._begun = None

    def between_batches(self, done: int) -> None:
        """Raise InputError where the first epoch will clearly not end in time."""
        if self._begun is None:
            return
        begun = self._begun
        begun.append(perf_counter())
        spent, tried = begun[-1] - begun[0], len(begun) - 1
        # The first batch takes longer than the others.
        needed = self._batches * (begun[-1] - begun[min(tried, 1)]) / max(tried - 1, 1)
        too_few = spent > self._budget or (tried > 3 and spent > self._budget / 10 and needed > 2 * self._budget)
        if all_reduce_max(int(too_few)):
            raise InputError(
                f"time_budget: {self._budget} seconds are too few for one epoch, which takes about "
                f"{max(needed, spent):.0f}; give more, or shorten the histories with MAX_ITEM_LIST_LENGTH"
            )
