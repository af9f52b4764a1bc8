"""How far a training or an evaluation is, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

from recbole_ssm.training.hooks.history import seconds_of
from recbole_ssm.training.hooks.hook import Hook, Validation

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer

Watch = Callable[[float, str], None]
"""Is told the share that is done, from 0 to 1, and that in words."""


class EvaluationProgress(Hook):
    """Tells ``watch``, before each batch of an evaluation but the first, what share of them is done.

    Args:
        watch: is told.
        words: what is done, in words.
    """

    def __init__(self, watch: Watch, words: str = "evaluating"):
        self._watch, self._words = watch, words
        self._batches = self._begun = 0
        self._start = 0.0

    @contextmanager
    def around_evaluation(self, batches: int) -> Iterator[None]:
        self._batches, self._begun, self._start = batches, 0, perf_counter()
        yield

    def scores_batch(self) -> bool:
        if self._begun:
            minutes, seconds = divmod(round(self._seconds_left()), 60)
            number = f"batch {self._begun + 1} of {self._batches}, {minutes}:{seconds:02} left"
            self.tell(self._begun / max(self._batches, 1), number)
        self._begun += 1
        return True

    def _seconds_left(self) -> float:
        return (perf_counter() - self._start) * (self._batches / self._begun - 1)

    def tell(self, share: float, batch: str) -> None:
        """Tell which batch comes next, if it is not the first.

        Args:
            share: of the evaluation that is done.
            batch: its number and the time left.
        """
        self._watch(share, f"{self._words}, {batch}")


class Progress(EvaluationProgress):
    """Tells ``watch``, before each batch and each validation, what share of the training is done, and that in words."""

    def __init__(self, trainer: HookedTrainer, watch: Watch):
        super().__init__(watch)
        self._trainer = trainer
        self._share, self._epoch, self._validates = 0.0, "", False

    def between_batches(self, done: int) -> None:
        trainer = self._trainer
        if trainer.epoch is None:
            return
        index, within = trainer.epoch.index, min(done / max(len(trainer.epoch.batches), 1), 1.0)
        share, budget = (index + within) / trainer.epochs, trainer.config.time_budget
        if budget is not None:
            share = max(share, seconds_of(trainer.history) / budget)
        self._share = max(self._share, min(share, 1.0))  # it is also asked after the last epoch
        self._epoch = f"epoch {min(index + 1, trainer.epochs)}/{trainer.epochs}"
        self._watch(self._share, self._epoch)

    @contextmanager
    def around_validation(self, validation: Validation) -> Iterator[None]:
        self._validates = True
        self._watch(self._share, f"{self._epoch}, validating")
        yield
        self._validates = False

    def tell(self, share: float, batch: str) -> None:
        """Tell which batch of a validation or of the test comes next, which is no part of the training's share.

        Args:
            share: of the evaluation that is done.
            batch: its number and the time left.
        """
        if self._validates:
            self._watch(self._share, f"{self._epoch}, validating, {batch}")
        else:
            self._watch(1.0, f"testing, {batch}")
