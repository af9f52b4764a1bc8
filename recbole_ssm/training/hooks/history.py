"""What each epoch of a training gave, and how long it took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from recbole.utils import dict2str, set_color

from recbole_ssm.config.config import Config
from recbole_ssm.system.console_log import tell
from recbole_ssm.training import json_log
from recbole_ssm.training.hooks.epoch_loss import EpochLoss
from recbole_ssm.training.hooks.hook import Epoch, Fit, Hook, Validation

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer
    from recbole_ssm.training.tree_training import TreeTrainer


def best_epoch(config: Config, history: list[dict]) -> int:
    """The epoch (from 1) whose model is kept; 0 before the first one.

    It is the best one by validation, and of equals the later one, as in RecBole; without validation it is the last one.
    """
    metric, sign = config.valid_metric.lower(), 1 if config.valid_metric_bigger else -1
    validated = [epoch for epoch in history if "valid_result" in epoch]
    scores = {epoch["epoch"]: sign * epoch["valid_result"][metric] for epoch in validated}
    return max(scores, key=lambda number: (scores[number], number), default=len(history))


def seconds_of(history: list[dict]) -> float:
    """How long these epochs took, training and validation."""
    return sum(epoch["train_seconds"] + epoch.get("valid_seconds", 0.0) for epoch in history)


def duration(seconds: float) -> str:
    """Seconds in words, such as ``4 min 10 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def exact_score(epoch: dict, metric: str) -> float:
    """The validation metric of an epoch, for numbers that are compared or averaged.

    Args:
        epoch: one of a trainer's ``history`` that was validated.
        metric: ``valid_metric`` of the training.

    Returns:
        Its value, not rounded; rounded in records of earlier versions, which have no other.
    """
    return epoch["valid_score"] if "valid_score" in epoch else epoch["valid_result"][metric.lower()]


def last_in_words(config: Config, history: list[dict], epochs: int) -> str:
    """The last epoch of a history in one line.

    Args:
        config: the configuration.
        history: the epochs so far.
        epochs: how many there will be, at most.

    Returns:
        Its number, its loss, the validation metric, and the seconds of training and validation.
    """
    epoch, metric = history[-1], config.valid_metric.lower()
    number = f"{epoch['epoch']:>{len(str(epochs))}}" + (f"/{epochs}" if epoch["epoch"] <= epochs else "")
    words = [f"epoch {number}"]
    if epoch.get("train_loss"):  # a model that counts has none
        words.append(f"loss {epoch['train_loss']:.{config.loss_decimal_place}f}")
    if "valid_result" in epoch:
        words.append(f"{metric} {epoch['valid_result'][metric]:.{config.metric_decimal_place}f}")
    words.append(f"{seconds_of([epoch]):>6.1f} s")
    if "valid_result" in epoch and best_epoch(config, history) == epoch["epoch"]:
        words.append("best so far")
    return "   ".join(words)


class History(Hook):
    """Records each epoch in ``trainer.history``, in the log and in the JSON lines.

    The last epoch is validated whatever ``eval_step`` is, so that a training leaves a model however it ends.

    It replaces RecBole's log lines about epochs, which count from 0 and give the loss as a sum over batches. Here
    epochs count from 1, and the loss is the mean over targets, in the log, in the JSON lines and for TensorBoard.
    """

    def __init__(self, trainer: HookedTrainer | TreeTrainer, loss: EpochLoss):
        self._trainer, self._loss = trainer, loss
        self._seconds_before = 0.0
        """How long an interrupted epoch had taken before the interruption."""
        self._begun = 0.0
        self._told = 0
        """How many epochs the terminal has a line of."""

    @contextmanager
    def around_fit(self, fit: Fit) -> Iterator[None]:
        trainer = self._trainer
        self._tell(len(trainer.history))  # those before an interruption
        yield
        left_out = trainer.history and "valid_result" not in trainer.history[-1]
        pretrains = "pretrain" in getattr(trainer.model, "train_stage", "")  # RecBole's models, without validation
        if fit.valid_data and trainer.eval_step > 1 and left_out and not pretrains:
            self._validate_last(fit)
        self._tell(len(trainer.history))
        if trainer.verbose and trainer.cur_step > trainer.stopping_step:
            tell(
                f"early stopping: no validation since epoch {trainer.best_epoch()} was better, more than stopping_step "
                f"({trainer.stopping_step}) allows"
            )

    def _validate_last(self, fit: Fit) -> None:
        trainer = self._trainer
        score, result = trainer._valid_epoch(fit.valid_data)
        best = trainer.best_valid_score
        if score >= best if trainer.valid_metric_bigger else score <= best:
            trainer.best_valid_score, trainer.best_valid_result = score, result
            if fit.saved:
                trainer._save_checkpoint(len(trainer.history) - 1)

    @contextmanager
    def around_epoch(self, epoch: Epoch) -> Iterator[None]:
        batches = len(epoch.batches)
        self._tell(len(self._trainer.history))  # those that were not validated
        self._begun = perf_counter()
        yield
        seconds = self._seconds_of_epoch()
        self._seconds_before = 0.0
        trainer, mean = self._trainer, self._loss.mean()
        number = len(trainer.history) + 1
        trainer.history.append({"epoch": number, "train_loss": mean, "train_seconds": seconds})
        json_log.write(trainer.history[-1])
        if trainer.verbose:
            trainer.logger.info(trainer._generate_train_loss_output(number, 0.0, seconds, mean))
        epoch.loss = tuple(part / batches for part in epoch.loss) if isinstance(epoch.loss, tuple) else mean

    @contextmanager
    def around_validation(self, validation: Validation) -> Iterator[None]:
        start = perf_counter()
        yield
        trainer = self._trainer
        found = {name: float(value) for name, value in validation.result.items()}
        validated = {
            "valid_seconds": perf_counter() - start,
            "valid_result": found,
            "valid_score": trainer.evaluator.valid_score,
        }
        trainer.history[-1] |= validated
        json_log.write({"epoch": len(trainer.history), **validated})
        if trainer.verbose:
            name, time = set_color(f"epoch {len(trainer.history)} evaluating", "green"), set_color("time", "blue")
            of_metric = set_color("valid_score", "blue") + f": {validation.score:f}"
            trainer.logger.info(f"{name} [{time}: {validated['valid_seconds']:.2f}s, {of_metric}]")
            trainer.logger.info(set_color("valid result", "blue") + f": \n{dict2str(validation.result)}")
        self._tell(len(trainer.history))

    def _tell(self, epochs: int) -> None:
        """Tell a person of so many epochs, but for those that were told."""
        trainer = self._trainer
        for number in range(self._told + 1, epochs + 1):
            if trainer.verbose:
                tell(last_in_words(trainer.config, trainer.history[:number], trainer.epochs))
        self._told = epochs

    def _seconds_of_epoch(self) -> float:
        return self._seconds_before + perf_counter() - self._begun

    def state(self, done: int) -> dict[str, Any]:
        history, epoch = self._trainer.history, getattr(self._trainer, "epoch", None)
        if not done:
            return {"seconds": 0.0}
        if epoch is not None and len(history) > epoch.index:  # trained, and being validated
            return {"seconds": history[-1]["train_seconds"]}
        return {"seconds": self._seconds_of_epoch()}

    def restore(self, state: dict[str, Any]) -> None:
        self._seconds_before = float(state.get("seconds", 0.0))
