"""The files of a training: its best model, and the training as it stands.

RecBole pickles its whole configuration into a checkpoint, which torch >= 2.6 rightly refuses to load, and writes it in
place. Here a checkpoint is data only (:mod:`recbole_ssm.checkpoints.format`) and each write is atomic.

Before each epoch, and when the process is told to stop, all that decides how the training goes on is written beside
the best model, as ``NAME.latest.pth``. That file also claims the name, which no other process then takes. It is removed
when the run has ended, or if the training cannot begin.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.latest import SUFFIX
from recbole_ssm.checkpoints.load import load_weights
from recbole_ssm.errors import CheckpointNotWritten, InputError
from recbole_ssm.system.distributed import all_gather, barrier, broadcast, rank
from recbole_ssm.system.plain import plain
from recbole_ssm.system.rng import random_state
from recbole_ssm.system.version import __version__
from recbole_ssm.training.hooks.hook import Epoch, Fit, Hook
from recbole_ssm.training.random_state import draws

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer


class Checkpointing(Hook):
    """Names, writes and reads the checkpoints of a training.

    Args:
        trainer: RecBole's, whose file name is given the dataset's.

    Attributes:
        named: whether the file names are final: claimed by this process, or those of a training that is resumed.
        before_validation: the random state before the validation that is going on, which will be repeated if it is
            interrupted (some models' loaders draw in it); None outside of one.
    """

    def __init__(self, trainer: HookedTrainer):
        self._trainer = trainer
        file, config = Path(trainer.saved_model_file), trainer.config
        trainer.saved_model_file = broadcast(name_with_dataset(file, config.model, config.dataset))
        self.named = self._claimed_here = False
        self.before_validation: dict[str, Any] | None = None
        self._fit: Fit | None = None
        self._epoch_start: dict[str, Any] = {}

    @property
    def latest_file(self) -> Path:
        """Where the training is kept as it stands."""
        return Path(self._trainer.saved_model_file).with_suffix(SUFFIX)

    @contextmanager
    def around_fit(self, fit: Fit) -> Iterator[None]:
        self._fit = fit
        try:
            yield
        except InputError:
            if self._claimed_here and not self._trainer.history and rank() == 0:
                self.latest_file.unlink(missing_ok=True)  # a training that cannot begin cannot be resumed
            raise

    @contextmanager
    def around_epoch(self, epoch: Epoch) -> Iterator[None]:
        if not epoch.resumed:
            self._epoch_start = draws(epoch.batches)
            if self._fit is not None and self._fit.saved:
                self._write_first() if not self.named else self.write_latest(epoch.index - 1)
        yield

    def write_best(self, file: str | Path, epoch: int) -> None:
        """Write the model after ``epoch`` (from 0)."""
        self._write(file, epoch)
        if self._trainer.verbose:
            self._trainer.logger.info(f"Saving current: {file}")

    def write_pretrained(self, file: str | Path, epoch: int) -> None:
        """Write a model of RecBole's S3Rec or RaCT, which are trained twice and read the first with a key."""
        self.latest_file.unlink(missing_ok=True)  # it will have the new name, too
        self._trainer.saved_model_file = str(file)
        self.write_best(file, epoch)

    def write_latest(self, epoch: int, done: int = 0) -> None:
        """Write the training after ``epoch`` (from 0; -1 before the first) and ``done`` batches of the next one."""
        self._write(self.latest_file, epoch, done)

    def _write_first(self) -> None:
        """RecBole names files by the second, and another process may have been started in the same one."""
        self._trainer.saved_model_file = broadcast(claim(self._trainer.saved_model_file) if rank() == 0 else "")
        self.named = self._claimed_here = True
        try:
            self.write_latest(-1)
        except CheckpointNotWritten:
            self.latest_file.unlink(missing_ok=True)
            raise

    def _write(self, file: str | Path, epoch: int, done: int = 0) -> None:
        state = self._content(epoch, done)  # which all processes make together
        if rank() != 0:
            return
        try:
            checkpoint.write(file, state)
        except CheckpointNotWritten as error:
            if self.latest_file.is_file() and self.latest_file.stat().st_size:  # and has not only the name
                again = (
                    f"{error}. {self.latest_file} keeps the training: the same command with --resume goes on with it"
                )
                raise CheckpointNotWritten(again) from error
            raise

    def _content(self, epoch: int, done: int) -> dict[str, Any]:
        """RecBole's keys, and more; ``given`` is the configuration without the published defaults."""
        trainer = self._trainer
        trainer.losses.read()
        return {
            "versions": {"recbole_ssm": __version__, "torch": str(torch.__version__)},
            "config": plain(trainer.config.final_config_dict),
            "given": plain(trainer.config.given),
            **({} if self._fit is None else self._fit.trained_on),
            "epoch": epoch,
            "cur_step": trainer.cur_step,
            "best_valid_score": float(trainer.best_valid_score),
            "history": plain(trainer.history[: epoch + 1]),
            "state_dict": trainer.model.state_dict(),
            "other_parameter": self._other_parameters(),
            "optimizer": trainer.optimizer.state_dict(),
            "training": {} if self._fit is None else self._state_of_hooks(done),
        }

    def _state_of_hooks(self, done: int) -> dict[str, Any]:
        return {key: value for hook in self._trainer.hooks for key, value in hook.state(done).items()}

    def _other_parameters(self) -> dict[str, Any]:
        """What a model keeps beside its parameters, where it is data; modules are in its ``state_dict`` anyway."""
        kept = self._trainer.model.other_parameter()
        data = {key: value for key, value in kept.items() if isinstance(value, Tensor | int | float | str)}
        left_out = [key for key, value in kept.items() if key not in data and not isinstance(value, nn.Module)]
        if left_out:
            self._trainer.logger.warning(f"not in the checkpoint, which holds data only: {', '.join(left_out)}")
        return data

    def state(self, done: int) -> dict[str, Any]:
        assert self._fit is not None
        return {
            "batches_done": done,
            "epoch_start": self._epoch_start if done else draws(self._fit.train_data),
            "random": all_gather(self.before_validation or random_state()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._epoch_start = state["epoch_start"]

    def load(self, file: str | Path | None = None) -> None:
        """Give the model the weights of a checkpoint; None for the best one of this training."""
        trainer = self._trainer
        file = file or trainer.saved_model_file
        barrier()  # by now the first process has written it
        state = checkpoint.read(file, trainer.device, trust=bool(trainer.config.trust_checkpoint))
        load_weights(trainer.model, state)
        trainer.logger.info(f"Loading model structure and parameters from {file}")


def name_with_dataset(file: Path, model: str, dataset: str) -> str:
    """RecBole's ``MODEL-DATE.pth`` as ``MODEL-DATASET-DATE.pth``, with a long name of a dataset cut short."""
    short = re.sub(r"[^\w.-]", "_", dataset).encode()[:100].decode(errors="ignore")
    return str(file.with_name(f"{model}-{short}-{file.name.removeprefix(f'{model}-')}"))


def claim(file: str) -> str:
    """Claim the name of a checkpoint: this one, or the first with a number that no process has taken."""
    path = Path(file)
    for number in count(1):
        try:
            if not path.exists():
                path.with_suffix(SUFFIX).open("x").close()
                return str(path)
        except FileExistsError:
            pass
        path = Path(file).with_stem(f"{Path(file).stem}-{number}")
    raise AssertionError("count() does not end")
