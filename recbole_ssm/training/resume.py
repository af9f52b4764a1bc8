"""Trainings that can be stopped at any moment and go on as if they had not been.

Before each epoch, and when the process is told to stop, all that decides how a training goes on is written beside the
best model, as ``NAME.latest.pth``. That file is removed when the run has come to its end, or cannot begin; and where it
is, no other process takes the name.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from torch import Tensor
from torch.optim import Optimizer

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.latest import SUFFIX
from recbole_ssm.data.shares import SHARE
from recbole_ssm.errors import CheckpointError, CheckpointNotWritten, InputError
from recbole_ssm.system.distributed import all_gather, all_reduce_max, broadcast, rank, world_size
from recbole_ssm.system.resources import is_out_of_memory
from recbole_ssm.system.rng import random_state, set_random_state


class Interrupted(Exception):
    """The training was told to stop, and is saved."""

    def __init__(self, signal_number: int, file: str | Path, again: str = "--resume"):
        super().__init__(f"interrupted; {file} keeps the training as it stands, and {again} goes on with it")
        self.signal_number = signal_number


class Resumable:
    """Mixed into the trainer that RecBole has for a model, next to it."""

    def __init__(self, config, model):
        super().__init__(config, model)
        self._left_off: dict | None = None
        self._finished = self._saved = self._named = False
        self._before_validation: dict | None = None
        self._stop_signal = 0
        self._train_data = None
        self._batches, self._batches_done, self._loss_so_far = 0, 0, 0.0
        self._loss_of_targets, self._targets = 0.0, 0.0
        self._handed_out: _Batches | None = None
        self._resumed: str | Path = ""

    @property
    def latest_file(self) -> Path:
        """Where the training is kept as it stands."""
        return Path(self.saved_model_file).with_suffix(SUFFIX)

    def resume_checkpoint(self, resume_file) -> None:
        """Take over a training; ``fit`` goes on with it.

        Args:
            resume_file: ``NAME.latest.pth``, or a best model, to go on from its epoch.

        Raises:
            CheckpointError: it cannot be read, or is of another model.
        """
        state = checkpoint.read(resume_file, self.device, trust=bool(self.config["trust_checkpoint"]))
        if state["config"]["model"] != self.config["model"]:
            raise CheckpointError(f"{resume_file} is of {state['config']['model']}, not of {self.config['model']}")
        try:
            self.model.load_state_dict(state["state_dict"])
        except RuntimeError as error:
            raise CheckpointError(f"{resume_file} is of a {self.config['model']} of another size") from error
        self._resumed = resume_file
        with self._understood():
            self.model.load_other_parameter(state.get("other_parameter"))
            _set_optimizer(self.optimizer, state["optimizer"])
        self.start_epoch, self.cur_step = state["epoch"] + 1, state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.saved_model_file = str(resume_file).removesuffix(SUFFIX).removesuffix(".pth") + ".pth"
        self._named = True
        self._finished = self.start_epoch >= self.epochs or self.cur_step > self.stopping_step
        if state.get("training"):
            self._left_off = state
            self.history = state["history"]
            results = (epoch["valid_result"] for epoch in self.history if "valid_result" in epoch)
            with self._understood():
                best = [result for result in results if result[self.valid_metric] == self.best_valid_score]
            self.best_valid_result = best[-1] if best else None
        self.logger.info(f"{resume_file} is loaded: the training goes on with epoch {self.start_epoch}")

    def fit(self, train_data, valid_data=None, verbose=True, saved=True, *args, **kwargs):
        self._train_data, self._saved = train_data, saved
        if self._left_off is not None and self._left_off["dataset"] != self.trained_on["dataset"]:
            raise CheckpointError(
                f"the training was on other data ({self._left_off['dataset']}) than these "
                f"({self.trained_on['dataset']}); resume it with the data it had, or start anew without --resume"
            )
        if self._finished:
            self.eval_collector.data_collect(train_data)  # as RecBole does where it trains
            return self.best_valid_score, self.best_valid_result
        if self._left_off is not None:
            with self._understood():
                _repeat_draws(train_data, self._left_off["training"]["epoch_start"])
        anew = self._left_off is None and self.start_epoch == 0
        with self._listening():
            try:
                result = super().fit(train_data, valid_data, verbose, saved, *args, **kwargs)
            except InputError:
                if anew and self._named and not self.history and rank() == 0:
                    self.latest_file.unlink(missing_ok=True)  # a training that cannot be is not to be gone on with
                raise
            if saved:
                self._save_latest(len(self.history) - 1)
                self._stop_if_told(batches_done=0)
        return result

    def _train_epoch(self, train_data, epoch_idx, *args, **kwargs):
        left_off, self._left_off = self._left_off, None
        self._epoch, self._loss_so_far = epoch_idx, 0.0
        self._loss_of_targets, self._targets = 0.0, 0.0
        batches = self._handed_out = _Batches(train_data, self._stop_if_told, self.config["ITEM_ID_FIELD"])
        if left_off is not None:
            with self._understood():
                self._go_on(left_off, train_data, batches)
        else:
            self._epoch_start = _draws(train_data)
            if self._saved and not self._named:
                self._save_first()
            elif self._saved:
                self._save_latest(epoch_idx - 1)
        before = self._loss_so_far
        loss = super()._train_epoch(batches, epoch_idx, *args, **kwargs)
        self._batches = batches.number
        return loss if isinstance(loss, tuple) else (loss or 0.0) + before

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Whatever is wrong within, for a checkpoint may hold anything, is a :class:`CheckpointError`."""
        try:
            yield
        except Exception as error:
            if isinstance(error, InputError) or is_out_of_memory(error):
                raise
            raise CheckpointError(
                f"{self._resumed} does not hold a training of {self.config['model']} with these settings "
                f"({type(error).__name__}); start anew without --resume"
            ) from error

    def _go_on(self, left_off: dict, train_data, batches: _Batches) -> None:
        training = left_off["training"]
        _set_optimizer(self.optimizer, left_off["optimizer"])  # once more: a new schedule has set learning rates
        if self.schedule is not None:
            _set_schedule(self.schedule, training["schedule"])
        self._epoch_start, self._loss_so_far = training["epoch_start"], training["loss"]
        self.seconds_before = float(training.get("seconds", 0.0))
        self._loss_of_targets, self._targets = map(float, training.get("loss_of_targets", (0.0, 0.0)))
        set_random_state(training["random"][rank()])  # to try it; the batches set it again once it is their turn
        _repeat_draws(train_data, self._epoch_start)
        batches.leave_out(training["batches_done"], training["random"])
        step = self.optimizer.step

        def first_step(*args, **kwargs):
            self.optimizer.step = step
            with self._understood():
                return step(*args, **kwargs)

        self.optimizer.step = first_step

    def _check_nan(self, loss):
        super()._check_nan(loss)
        self._loss_so_far += loss.item()
        self._loss_of_targets += loss.item() * self._handed_out.weight
        self._targets += self._handed_out.targets

    def mean_loss(self) -> float:
        """The loss of this epoch, so far: the mean over targets, since batches may hold more or fewer of them."""
        total, targets = map(sum, zip(*all_gather((self._loss_of_targets, self._targets)), strict=True))
        return total / targets if targets else 0.0

    def _valid_epoch(self, *args, **kwargs):
        self._before_validation = random_state()  # some models' loaders draw in it, and it will be repeated
        try:
            self._stop_if_told(self._batches)
            return super()._valid_epoch(*args, **kwargs)
        finally:
            self._before_validation = None

    def _stop_if_told(self, batches_done: int) -> None:
        """Between two batches, or while nothing is changed: save, and raise :class:`Interrupted`."""
        told = all_reduce_max(self._stop_signal)
        if not told:
            return
        if batches_done and not self.enable_scaler:  # of which RecBole makes a new one in each epoch
            self._save_latest(self._epoch - 1, batches_done)
        raise Interrupted(told, self.latest_file)

    def _save_first(self) -> None:
        """RecBole names files by the second in which its trainer was made, and other processes may make one in it."""
        self.saved_model_file = broadcast(_claimed(self.saved_model_file) if rank() == 0 else "")
        self._named = True
        try:
            self._save_latest(-1)
        except CheckpointNotWritten:
            self.latest_file.unlink(missing_ok=True)
            raise

    def _save_latest(self, epoch: int, batches_done: int = 0) -> None:
        """The training after ``epoch``, and so many batches of the next one."""
        self._batches_done = batches_done
        self._write(self.latest_file, self._checkpoint(epoch))
        self._batches_done = 0

    def training_state(self) -> dict:
        """What a checkpoint has to hold, beside model and optimiser, for the training to go on; empty before it."""
        if self._train_data is None:
            return {}
        within = self._batches_done > 0
        seconds = self.seconds_of_epoch() if within else 0.0
        if within and len(self.history) > self._epoch:  # trained, and being validated
            seconds = self.history[-1]["train_seconds"]
        of_targets = all_gather((self._loss_of_targets, self._targets)) if within else [(0.0, 0.0)]
        return {
            "batches_done": self._batches_done,
            "loss": sum(all_gather(self._loss_so_far)) / world_size() if within else 0.0,
            "loss_of_targets": [sum(each) / world_size() for each in zip(*of_targets, strict=True)],
            "seconds": seconds,
            "epoch_start": self._epoch_start if within else _draws(self._train_data),
            "random": all_gather(self._before_validation or random_state()),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
        }

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C stop the training where it can be saved; a second one stops it at once."""
        if not self._saved or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number, _frame) -> None:
            self._stop_signal = number
            for each, handler in before.items():
                signal.signal(each, handler)
            if self._before_validation is not None and world_size() == 1:
                self._stop_if_told(self._batches)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _claimed(file: str) -> str:
    """This file, or one with a number, that neither is there nor is claimed by another process; claimed now."""
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


class _Batches:
    """A loader for the time of one epoch, which can begin in the midst of it and asks before each batch."""

    def __init__(self, loader, before_batch, target_field: str):
        self._loader, self._target_field = loader, target_field
        self._before_batch = before_batch
        self.targets, self.weight = 0, 0.0
        """How many this process has of the batch that is out, and what its loss is multiplied by to be their sum."""
        self._left_out, self._numbers = 0, None
        self.number = 0
        """How many batches have been handed out or left out."""

    def leave_out(self, batches: int, numbers: list[dict]) -> None:
        """Do not hand out the first batches; after them go on with these random numbers, of each process."""
        self._left_out, self._numbers = batches, numbers

    def __getattr__(self, name: str):
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self):
        for batch in self._loader:
            if self.number >= self._left_out:
                self._go_on()
                self._before_batch(self.number)
                self._count(batch)
                yield batch
            self.number += 1
        self._go_on()

    def _count(self, batch) -> None:
        self.targets = self.weight = len(batch[self._target_field]) if self._target_field in batch else len(batch)
        if SHARE in batch:
            share = batch[SHARE].item()  # 0 where the process has no target
            self.targets, self.weight = (self.targets, self.targets / share) if share else (0, 0.0)

    def _go_on(self) -> None:
        if self._left_out and self._numbers is not None:
            set_random_state(self._numbers[rank()])
            self._numbers = None


def _draws(train_data) -> dict:
    """What decides the batches of the epoch that comes next, and all random numbers in it."""
    generator = getattr(train_data, "generator", None)
    return {
        "random": all_gather(random_state()),
        "generator": None if generator is None else generator.get_state(),
        "epoch": getattr(getattr(train_data, "batch_sampler", None), "epoch", None),
    }


def _repeat_draws(train_data, draws: dict) -> None:
    if len(draws["random"]) != world_size():
        raise CheckpointError(f"the training had {len(draws['random'])} processes, not {world_size()}; start as many")
    set_random_state(draws["random"][rank()])
    if draws["generator"] is not None:
        train_data.generator.set_state(draws["generator"].cpu())
    if draws["epoch"] is not None:
        train_data.batch_sampler.set_epoch(int(draws["epoch"]))


def _set_optimizer(optimizer: Optimizer, state: dict) -> None:
    """Take over an optimiser's state; but for learning rates, its settings are those of the configuration.

    Torch compares no shapes, and would write over other memory where they do not fit.
    """
    settings = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, before in zip(optimizer.param_groups, settings, strict=True):
        rates = {key: float(value) for key, value in group.items() if key.endswith("lr")}
        group.clear()
        group.update(before | rates)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                if value.shape != parameter.shape and not (name == "step" and value.numel() == 1):
                    raise ValueError(f"{name} has not the shape of its parameter")
                values[name] = value.contiguous()


def _set_schedule(schedule, state: dict) -> None:
    """Where in a schedule of learning rates a training is; the schedule itself follows from the settings."""
    moves = ("last_epoch", "_step_count", "_last_lr", "base_lrs", "_get_lr_called_within_step")
    known = {key: state[key] for key in schedule.state_dict().keys() & state.keys()}
    if any(known[key] != value for key, value in schedule.state_dict().items() if key in known and key not in moves):
        raise ValueError("it is another schedule")
    schedule.load_state_dict(known)
