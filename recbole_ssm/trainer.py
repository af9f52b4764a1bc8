"""RecBole's trainers, with a schedule of the learning rate, a history, and checkpoints that hold data only."""

from __future__ import annotations

from enum import Enum
from itertools import count
from pathlib import Path
from time import perf_counter

import torch
from recbole.utils import get_trainer

from recbole_ssm.optimisation import decay_matrices_only, fused_adam, one_cycle


class TrainingDiverged(ArithmeticError):
    """The training loss is no number any more."""


class ScheduledTraining:
    """Mixed into the trainer that RecBole has for a model: ``lr_schedule``, and for our models a faster optimiser."""

    schedule = None

    def _build_optimizer(self, **given):
        if self.config.is_packed and not given:
            groups = decay_matrices_only(self.model, self.weight_decay)
            optimizer = fused_adam(self.learner, groups, self.learning_rate)
            return optimizer or super()._build_optimizer(params=groups)
        return super()._build_optimizer(**given)

    def fit(self, train_data, *args, **kwargs):
        if self.config["lr_schedule"] == "one_cycle" and self.schedule is None:
            epochs = self.epochs
            steps = train_data.total(epochs) if self.config.is_packed else epochs * len(train_data)
            self.schedule = one_cycle(self.optimizer, steps)
        return super().fit(train_data, *args, **kwargs)


class History:
    """Mixed into the trainer that RecBole has for a model: what each epoch gave, and how long it took."""

    def __init__(self, config, model):
        super().__init__(config, model)
        self.history: list[dict] = []
        """Of each epoch ``epoch`` (from 1), ``train_loss`` (mean over batches), ``train_seconds``, and where it was
        validated ``valid_seconds`` and ``valid_result``."""

    def _train_epoch(self, train_data, *args, **kwargs):
        batches = len(train_data)
        start = perf_counter()
        loss = super()._train_epoch(train_data, *args, **kwargs)
        seconds = perf_counter() - start
        total = sum(loss) if isinstance(loss, tuple) else loss
        epoch = {"epoch": len(self.history) + 1, "train_loss": total / batches, "train_seconds": seconds}
        self.history.append(epoch)
        return loss

    def _valid_epoch(self, *args, **kwargs):
        start = perf_counter()
        score, result = super()._valid_epoch(*args, **kwargs)
        self.history[-1] |= {"valid_seconds": perf_counter() - start, "valid_result": dict(result)}
        return score, result


class PlainCheckpoints:
    """Mixed into the trainer that RecBole has for a model.

    RecBole pickles its whole configuration into a checkpoint, and torch >= 2.6 rightly refuses to load that. Here the
    configuration is stored as plain values, so that ``torch.load(file)`` needs no trust.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        self.saved_model_file = _unused(self.saved_model_file)

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        file = kwargs.pop("saved_model_file", self.saved_model_file)
        state = {
            "config": _plain(self.config.final_config_dict),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "state_dict": self.model.state_dict(),
            "other_parameter": self._plain_other_parameters(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, file)
        if verbose:
            self.logger.info(f"Saving current: {file}")

    def _plain_other_parameters(self) -> dict:
        """What a model keeps beside its parameters, if it can be stored as data; modules are in state_dict anyway."""
        kept = self.model.other_parameter()
        plain = {key: value for key, value in kept.items() if isinstance(value, torch.Tensor | int | float | str)}
        left_out = [key for key, value in kept.items() if key not in plain and not isinstance(value, torch.nn.Module)]
        if left_out:
            self.logger.warning(f"not in the checkpoint, since it holds data only: {', '.join(left_out)}")
        return plain

    def _check_nan(self, loss):
        if not torch.isfinite(loss):
            raise TrainingDiverged(
                f"the training loss became {loss.item()}; lower learning_rate ({self.config['learning_rate']}) or set "
                "clip_grad_norm: {'max_norm': 1.0}. "
                f"The best model so far, if an epoch was completed, is {self.saved_model_file}"
            )


_given: set[Path] = set()


def _unused(file: str) -> str:
    """RecBole names a checkpoint by the second in which its trainer was made; another one of it gets a number."""
    path = Path(file)
    for number in count(1):
        if path not in _given and not path.exists():
            _given.add(path)
            return str(path)
        path = Path(file).with_stem(f"{Path(file).stem}-{number}")
    raise AssertionError("count() does not end")


def _plain(value):
    """Numbers, words, and lists and dicts of them; anything else by its name."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return value.name if isinstance(value, Enum) else str(value)


def create_trainer(config, model):
    """The trainer that RecBole has for the model, with what is added here."""
    base = get_trainer(config["MODEL_TYPE"], config["model"])
    return type(base.__name__, (PlainCheckpoints, History, ScheduledTraining, base), {})(config, model)
