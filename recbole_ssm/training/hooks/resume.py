"""Trainings that go on as if they had not been stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.configuration import understood
from recbole_ssm.checkpoints.latest import SUFFIX
from recbole_ssm.checkpoints.load import load_weights
from recbole_ssm.errors import CheckpointError
from recbole_ssm.system.console_log import tell
from recbole_ssm.system.distributed import rank
from recbole_ssm.system.rng import set_random_state
from recbole_ssm.training.hooks.checkpointing import Checkpointing
from recbole_ssm.training.hooks.hook import Epoch, Fit, Hook
from recbole_ssm.training.optimisation import set_optimizer_state
from recbole_ssm.training.random_state import repeat_draws

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer


class Resume(Hook):
    """Goes on with the training of a checkpoint, bit for bit, from the batch where it was stopped."""

    def __init__(self, trainer: HookedTrainer, files: Checkpointing):
        self._trainer, self._files = trainer, files
        self._left_off: dict[str, Any] | None = None
        """What the checkpoint holds, until the first epoch has taken it over."""
        self._finished = False
        self._file: str | Path = ""

    def take_over(self, file: str | Path) -> None:
        """Take over a training; ``fit`` goes on with it.

        Args:
            file: ``NAME.latest.pth``, or a best model, to go on from its epoch.

        Raises:
            CheckpointError: it cannot be read, or is of another model.
        """
        trainer = self._trainer
        state = checkpoint.read(file, trainer.device, trust=bool(trainer.config.trust_checkpoint))
        if state["config"]["model"] != trainer.config.model:
            raise CheckpointError(f"{file} is of {state['config']['model']}, not of {trainer.config.model}")
        self._file = file
        with self._understood():
            try:
                load_weights(trainer.model, state)
            except RuntimeError as error:
                raise CheckpointError(f"{file} is of a {trainer.config.model} of another size") from error
            set_optimizer_state(trainer.optimizer, state["optimizer"])
        trainer.start_epoch, trainer.cur_step = state["epoch"] + 1, state["cur_step"]
        trainer.best_valid_score = state["best_valid_score"]
        trainer.saved_model_file = str(file).removesuffix(SUFFIX).removesuffix(".pth") + ".pth"
        self._files.named = True
        self._finished = trainer.start_epoch >= trainer.epochs or trainer.cur_step > trainer.stopping_step
        if state.get("training"):
            self._left_off = state
            trainer.history[:] = state["history"]
            results = (epoch["valid_result"] for epoch in trainer.history if "valid_result" in epoch)
            with self._understood():
                best = [result for result in results if result[trainer.valid_metric] == trainer.best_valid_score]
            trainer.best_valid_result = best[-1] if best else None
        goes_on = "has ended" if self._finished else f"goes on with epoch {trainer.start_epoch + 1}"
        tell(f"{file} is loaded: the training {goes_on}")

    @contextmanager
    def around_fit(self, fit: Fit) -> Iterator[None]:
        if self._left_off is not None and self._left_off["dataset"] != fit.trained_on["dataset"]:
            raise CheckpointError(
                f"the training was on other data ({self._left_off['dataset']}) than these "
                f"({fit.trained_on['dataset']}); resume it with the data it had, or start anew without --resume"
            )
        if self._finished:
            fit.trains = False
            self._trainer.eval_collector.data_collect(fit.train_data)  # as RecBole does before it trains
        elif self._left_off is not None:
            with self._understood():
                repeat_draws(fit.train_data, self._left_off["training"]["epoch_start"])
        yield

    @contextmanager
    def around_epoch(self, epoch: Epoch) -> Iterator[None]:
        left_off, self._left_off = self._left_off, None
        if left_off is not None:
            epoch.resumed = True
            with self._understood():
                self._go_on(left_off, epoch)
        yield

    def _go_on(self, left_off: dict[str, Any], epoch: Epoch) -> None:
        trainer, training = self._trainer, left_off["training"]
        set_optimizer_state(trainer.optimizer, left_off["optimizer"])  # again: a new schedule has set learning rates
        for hook in trainer.hooks:
            hook.restore(training)
        set_random_state(training["random"][rank()])  # to try it: it is set again when its batch comes
        repeat_draws(epoch.batches, training["epoch_start"])
        epoch.batches.leave_out(training["batches_done"], training["random"])
        step = trainer.optimizer.step

        def first_step(*args: Any, **kwargs: Any) -> Any:
            trainer.optimizer.step = step  # type: ignore[method-assign]  # back to what it was
            with self._understood():
                return step(*args, **kwargs)

        trainer.optimizer.step = first_step  # type: ignore[method-assign]  # the optimiser's state may not fit

    def _understood(self) -> AbstractContextManager[None]:
        wrong = f"does not hold a training of {self._trainer.config.model} with these settings"
        return understood(self._file, wrong, "start anew without --resume")
