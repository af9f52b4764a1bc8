"""``lr_schedule``: how the learning rate changes while a model trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recbole_ssm.training.hooks.hook import Fit, Hook
from recbole_ssm.training.optimisation import one_cycle, set_schedule_state

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer


class Schedule(Hook):
    """Follows ``one_cycle`` over all steps of the training; ``constant`` needs nothing."""

    def __init__(self, trainer: HookedTrainer):
        self._trainer = trainer
        self._schedule: Any = None

    @contextmanager
    def around_fit(self, fit: Fit) -> Iterator[None]:
        trainer = self._trainer
        if trainer.config.lr_schedule == "one_cycle" and self._schedule is None:
            data, epochs = fit.train_data, trainer.epochs
            steps = data.total(epochs) if hasattr(data, "total") else epochs * len(data)
            self._schedule = one_cycle(trainer.optimizer, steps)
        yield

    def state(self, done: int) -> dict[str, Any]:
        return {"schedule": None if self._schedule is None else self._schedule.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        if self._schedule is not None:
            set_schedule_state(self._schedule, state["schedule"])
