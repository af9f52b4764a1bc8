"""Trainings that can be stopped at any moment, and are saved as they stand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_ssm.system.distributed import all_reduce_max, world_size
from recbole_ssm.system.rng import random_state
from recbole_ssm.training.hooks.checkpointing import Checkpointing
from recbole_ssm.training.hooks.hook import Fit, Hook, Validation

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer


class Interrupted(Exception):
    """The training was told to stop, and is saved."""

    def __init__(self, signal_number: int, file: str | Path, again: str = "the same command with --resume"):
        super().__init__(f"interrupted; {file} keeps the training as it stands, and {again} goes on with it")
        self.signal_number, self.file = signal_number, file


class Stopping(Hook):
    """SIGTERM and Ctrl-C stop the training where it can be saved; a second one stops it at once.

    Of several processes all stop at the same batch, whichever of them was told to.
    """

    def __init__(self, trainer: HookedTrainer, files: Checkpointing):
        self._trainer, self._files = trainer, files
        self._signal = 0

    @contextmanager
    def around_fit(self, fit: Fit) -> Iterator[None]:
        if not fit.trains:
            yield
            return
        with self._listening(fit.saved):
            yield
            if fit.saved:
                self._files.write_latest(len(self._trainer.history) - 1)
                self._trainer.between_batches(0)

    @contextmanager
    def around_validation(self, validation: Validation) -> Iterator[None]:
        self._files.before_validation = random_state()
        try:
            self._trainer.between_batches(self._trained_batches())
            yield
        finally:
            self._files.before_validation = None

    def between_batches(self, done: int) -> None:
        """Raise :class:`Interrupted` if a process was told to stop, with the training saved."""
        told = all_reduce_max(self._signal)
        if not told:
            return
        trainer = self._trainer
        if done and not trainer.enable_scaler:  # RecBole makes a new scaler in each epoch
            assert trainer.epoch is not None
            self._files.write_latest(trainer.epoch.index - 1, done)
        raise Interrupted(told, self._files.latest_file)

    def _trained_batches(self) -> int:
        return 0 if self._trainer.epoch is None else self._trainer.epoch.batches.number

    @contextmanager
    def _listening(self, saved: bool) -> Iterator[None]:
        if not saved or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, _frame: object) -> None:
            self._signal = number
            for each, handler in before.items():
                signal.signal(each, handler)
            if self._files.before_validation is not None and world_size() == 1:
                self.between_batches(self._trained_batches())

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
