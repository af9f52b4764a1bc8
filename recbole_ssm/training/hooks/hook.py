"""The moments at which a trainer calls its hooks, and what it tells them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from recbole_ssm.checkpoints import reading
from recbole_ssm.checkpoints.fingerprint import fingerprint, item_vocabulary
from recbole_ssm.checkpoints.popularity import KEY, popularity
from recbole_ssm.training.batches import EpochBatches
from recbole_ssm.training.losses import BatchLoss


@dataclass
class Fit:
    """One call of a trainer's ``fit``."""

    train_data: Any
    valid_data: Any
    saved: bool
    """Whether checkpoints are written."""
    trains: bool = True
    """A hook sets it to False where nothing is left to train."""

    @cached_property
    def trained_on(self) -> dict[str, Any]:
        """What checkpoints say of the data."""
        dataset = self.train_data._dataset
        return {
            "dataset": fingerprint(dataset),
            "item_vocabulary": item_vocabulary(dataset),
            KEY: popularity(dataset),
            reading.KEY: reading.of_import(dataset),
        }


@dataclass
class Epoch:
    """One epoch of training, without its validation."""

    index: int
    """From 0, as RecBole counts."""
    batches: EpochBatches
    loss_func: Callable | None = None
    """The loss of a batch; None for the model's."""
    loss: float | tuple[float, ...] | None = None
    """What RecBole's trainer returns; set once the epoch is trained. A hook may put another number in its place."""
    resumed: bool = False
    """Whether its first batches were trained by a process before this one, or may have been."""


@dataclass
class Validation:
    """One validation of an epoch; score and result are set once it is done."""

    score: Any = None
    result: Any = None


@dataclass
class Scored:
    """The scores of one batch of an evaluation."""

    batch: tuple
    """As the loader gave it: interaction, history or rows, and the positive items."""
    scores: Tensor
    all_items: bool
    """(S, n_items) scores of every item; else those of candidates."""


class Hook:
    """Something that is done at certain moments of a training. A subclass overrides the moments that it needs.

    ``around_...`` are context managers. They are entered in the order of the trainer's list and left in reverse, so
    the first hook of the list also sees the errors of all others. The other moments follow the order of the list.
    """

    def around_fit(self, fit: Fit) -> AbstractContextManager[None]:
        """The whole training."""
        return nullcontext()

    def around_epoch(self, epoch: Epoch) -> AbstractContextManager[None]:
        """One epoch of training."""
        return nullcontext()

    def around_validation(self, validation: Validation) -> AbstractContextManager[None]:
        """The validation after an epoch."""
        return nullcontext()

    def around_evaluation(self, batches: int) -> AbstractContextManager[None]:
        """One evaluation, as validation or as test, of so many batches."""
        return nullcontext()

    def between_batches(self, done: int) -> None:
        """Before each batch of training, before each validation, and after the last epoch.

        Args:
            done: how many batches of the epoch are trained; 0 after the last epoch.
        """

    def after_loss(self, loss: BatchLoss) -> None:
        """Once the loss of a batch is known: on a CPU before its gradients, on a GPU some batches later.

        All losses are known before the epoch ends, and before a checkpoint is written.
        """

    def scores_batch(self) -> bool:
        """Whether this process scores the evaluation batch that comes next; each hook is asked of each batch."""
        return True

    def after_scoring(self, scored: Scored) -> None:
        """After the scores of an evaluation batch, before the metrics."""

    def state(self, done: int) -> dict[str, Any]:
        """What a checkpoint must hold for the training to go on.

        Args:
            done: how many batches of the current epoch are trained; 0 between two epochs.

        Returns:
            Plain values and tensors, under keys that no other hook has.
        """
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the :meth:`state` of all hooks, within the epoch that goes on."""
