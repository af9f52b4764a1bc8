"""RecBole's trainers, with hooks.

:class:`HookedTrainer` is RecBole's ``Trainer``, which trains most models, and calls the hooks at the moments that
:class:`recbole_ssm.training.hooks.hook.Hook` names. What each hook does is in its file. RecBole has subclasses of
``Trainer`` for some models, for example to train them in two stages; :func:`hooked` adds the hooks to one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from logging import Logger, getLogger
from pathlib import Path
from typing import Any

import torch
from recbole.evaluator import Evaluator
from recbole.trainer.trainer import AbstractTrainer, Trainer
from recbole.utils import ModelType, WandbLogger, get_trainer
from torch import Tensor
from torch.optim import Optimizer

from recbole_ssm.config.config import Config
from recbole_ssm.training import json_log
from recbole_ssm.training.batches import EpochBatches
from recbole_ssm.training.evaluator import ExactEvaluator
from recbole_ssm.training.hooks.checkpointing import Checkpointing
from recbole_ssm.training.hooks.divergence import Divergence
from recbole_ssm.training.hooks.epoch_loss import EpochLoss
from recbole_ssm.training.hooks.forecast import Forecast
from recbole_ssm.training.hooks.history import History, best_epoch
from recbole_ssm.training.hooks.hook import Epoch, Fit, Hook, Scored, Validation
from recbole_ssm.training.hooks.memory import Memory
from recbole_ssm.training.hooks.progress import Progress, Watch
from recbole_ssm.training.hooks.resume import Resume
from recbole_ssm.training.hooks.schedule import Schedule
from recbole_ssm.training.hooks.sharing import Sharing
from recbole_ssm.training.hooks.stopping import Stopping
from recbole_ssm.training.hooks.time_budget import TimeBudget
from recbole_ssm.training.loop import train_batches
from recbole_ssm.training.losses import EVERY, BatchLoss, Losses
from recbole_ssm.training.optimisation import fused_adam, parameter_groups
from recbole_ssm.training.recording import RecordedSteps
from recbole_ssm.training.tree_training import TREE_TRAINERS


class _Hooked(Trainer):
    """What training and evaluation have in common."""

    config: Config
    model: Any
    device: torch.device
    logger: Logger
    eval_collector: Any
    saved_model_file: str
    hooks: tuple[Hook, ...]

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: str | Path | None = None,
        show_progress: bool = False,
    ) -> Any:
        """RecBole's, from a loaded or the current model."""
        batches = len(eval_data) if eval_data else 0
        with _all(hook.around_evaluation(batches) for hook in self.hooks):
            if eval_data and load_best_model:
                self.load_best(model_file)
            return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)

    def load_best(self, file: str | Path | None = None) -> None:
        """Give the model its best weights."""
        raise NotImplementedError

    def _full_sort_batch_eval(self, batched_data: tuple) -> tuple:
        return self._scored(super()._full_sort_batch_eval, batched_data, all_items=True)

    def _neg_sample_batch_eval(self, batched_data: tuple) -> tuple:
        return self._scored(super()._neg_sample_batch_eval, batched_data, all_items=False)

    def _scored(self, score: Callable, batch: tuple, *, all_items: bool) -> tuple:
        if not all([hook.scores_batch() for hook in self.hooks]):
            return (None,) * 4
        found = score(batch)
        for hook in self.hooks:
            hook.after_scoring(Scored(batch, found[1], all_items))
        return found


class EvaluationTrainer(_Hooked):
    """One that only evaluates: it makes no optimiser, no folder and no log."""

    history = None
    """There is no training."""

    def __init__(self, config: Config, model: Any):
        AbstractTrainer.__init__(self, config, model)
        self.logger, self.wandblogger = getLogger(), WandbLogger(config)
        self.device, self.test_batch_size = config.device, config.eval_batch_size
        self.gpu_available = self.device.type == "cuda"
        self.evaluator = Evaluator(config)
        self.item_tensor = self.tot_item_num = None
        self.hooks = (Memory(config), Divergence(self), Sharing(self))


class HookedTrainer(_Hooked):
    """One that trains.

    Args:
        config: the configuration.
        model: made from it.
        watch: see :class:`recbole_ssm.training.hooks.progress.Progress`.

    Attributes:
        history: of each epoch ``epoch`` (from 1), ``train_loss`` (mean over targets), ``train_seconds``, and where it
            was validated ``valid_seconds``, ``valid_result`` and ``valid_score`` (``valid_metric``, not rounded).
        epoch: the epoch that is being trained, or was last.
        verbose: whether the log is told of each epoch.
        losses: of batches, as far as the hooks do not know them yet.
        recorded: what computes losses and gradients with ``cuda_graph``; None without.
        hooks: all hooks in their order.
    """

    optimizer: Optimizer
    epochs: int
    eval_step: int
    start_epoch: int
    cur_step: int
    stopping_step: int
    valid_metric: str
    valid_metric_bigger: bool
    best_valid_score: float
    best_valid_result: dict[str, float] | None
    enable_scaler: bool
    tensorboard: Any

    def __init__(self, config: Config, model: Any, watch: Watch | None = None):
        super().__init__(config, model)
        self.evaluator = ExactEvaluator(config)
        self.tensorboard = json_log.TensorBoard(self.tensorboard)
        self.history: list[dict] = []
        self.epoch: Epoch | None = None
        self.verbose = True
        self.losses = Losses(self._tell_loss, EVERY.get(self.device.type, 1))
        self.recorded = RecordedSteps(self) if config.is_packed and config.cuda_graph else None
        loss, budget = EpochLoss(), config.time_budget
        self._files = Checkpointing(self)
        self._resume = Resume(self, self._files)
        self.hooks = (
            Memory(config),  # first: it explains an error of any other
            History(self, loss),  # its seconds include all that follows
            *([] if budget is None else [TimeBudget(self, budget)]),  # ends the training before an epoch is saved
            Schedule(self),  # before Resume, which sets how far it is
            loss,  # begins at 0 before Resume sets it
            self._resume,  # before Checkpointing: it tells whether the epoch is new
            self._files,
            Stopping(self, self._files),  # saves what Checkpointing has named
            *([] if watch is None else [Progress(self, watch)]),
            Forecast(self),
            Divergence(self),  # before the end of the training is saved
            Sharing(self),  # last: its loss is what RecBole's trainer computes
        )

    def _build_optimizer(self, **given: Any) -> Optimizer:
        """RecBole's, or for models of this package a faster one with a learning rate of its own for embeddings."""
        if not self.config.is_packed or given:
            return super()._build_optimizer(**given)
        scale = self.config.embedding_lr_scale  # None for a model of one's own that does not name it
        groups = parameter_groups(self.model, self.learning_rate, self.weight_decay, 1.0 if scale is None else scale)
        return fused_adam(self.learner, groups, self.learning_rate) or super()._build_optimizer(params=groups)

    def fit(
        self,
        train_data: Any,
        valid_data: Any = None,
        verbose: bool = True,
        saved: bool = True,
        show_progress: bool = False,
        callback_fn: Callable[[int, float], None] | None = None,
    ) -> tuple[float, dict[str, float] | None]:
        """RecBole's; its own log lines about epochs are off, see :class:`History`."""
        self.verbose = verbose
        fit = Fit(train_data, valid_data, saved)
        with _all(hook.around_fit(fit) for hook in self.hooks):
            if fit.trains:
                super().fit(train_data, valid_data, False, saved, show_progress, callback_fn)
        return self.best_valid_score, self.best_valid_result

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Callable | None = None, show_progress: bool = False
    ) -> Any:
        batches = EpochBatches(train_data, self.between_batches, self.config.ITEM_ID_FIELD)
        epoch = Epoch(epoch_idx, batches, loss_func)
        with _all(hook.around_epoch(epoch) for hook in self.hooks):
            self.epoch = epoch
            if self.config.is_packed:
                train_batches(self, epoch)
            else:
                epoch.loss = super()._train_epoch(batches, epoch_idx, epoch.loss_func, show_progress)
            self.losses.read()
        return epoch.loss

    def between_batches(self, done: int) -> None:
        """A moment at which the training may be stopped; see :meth:`Hook.between_batches`."""
        for hook in self.hooks:
            hook.between_batches(done)

    def _check_nan(self, loss: Tensor) -> None:
        assert self.epoch is not None
        self.losses.add(loss, self.epoch.batches.targets, self.epoch.batches.weight)

    def _tell_loss(self, loss: BatchLoss) -> None:
        for hook in self.hooks:
            hook.after_loss(loss)

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[Any, Any]:
        validation = Validation()
        with _all(hook.around_validation(validation) for hook in self.hooks):
            validation.score, validation.result = super()._valid_epoch(valid_data, show_progress)
        return validation.score, validation.result

    def best_epoch(self) -> int:
        """See :func:`recbole_ssm.training.hooks.history.best_epoch`."""
        return best_epoch(self.config, self.history)

    @property
    def latest_file(self) -> Path:
        """Where the training is kept as it stands."""
        return self._files.latest_file

    def resume_checkpoint(self, resume_file: str | Path) -> None:
        """Take over a training; see :meth:`recbole_ssm.training.hooks.resume.Resume.take_over`."""
        self._resume.take_over(resume_file)

    def load_best(self, file: str | Path | None = None) -> None:
        """Give the model the weights of a checkpoint; None for the best one of this training."""
        self._files.load(file)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        self._files.write_best(kwargs.get("saved_model_file", self.saved_model_file), epoch)

    def save_pretrained_model(self, epoch: int, saved_model_file: str) -> None:
        """RecBole's of S3Rec and RaCT, which read it with ``pre_model_path``."""
        self._files.write_pretrained(saved_model_file, epoch)


@contextmanager
def _all(contexts: Iterable[AbstractContextManager[None]]) -> Iterator[None]:
    """Enter all contexts in their order, and leave them in reverse."""
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


@cache
def hooked(trainer: type[Trainer]) -> type[HookedTrainer]:
    """One of RecBole's trainers with hooks around its fit, its epochs and its evaluations."""

    class WithHooks(HookedTrainer, trainer):
        """What HookedTrainer passes on with ``super()`` goes to RecBole's class."""

    return WithHooks


def create_trainer(config: Config, model: Any, *, trains: bool = True, watch: Watch | None = None) -> Any:
    """The trainer that RecBole has for a model, with hooks.

    Args:
        config: the configuration.
        model: made from it.
        trains: False for a trainer that only evaluates: it makes no optimiser, no folder and no log.
        watch: see :class:`recbole_ssm.training.hooks.progress.Progress`.

    Returns:
        An instance of RecBole's trainer, called as it is.
    """
    if config.MODEL_TYPE == ModelType.DECISIONTREE:
        return TREE_TRAINERS[config.model](config, model)
    if not trains:
        return EvaluationTrainer(config, model)
    return hooked(get_trainer(config.MODEL_TYPE, config.model))(config, model, watch)
