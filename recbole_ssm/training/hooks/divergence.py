"""A training that diverged is an error in one sentence, and never a metric."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from recbole.utils import EvaluatorType
from torch import Tensor, nn

from recbole_ssm.errors import InputError
from recbole_ssm.training.hooks.hook import Fit, Hook, Scored
from recbole_ssm.training.losses import BatchLoss

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import EvaluationTrainer, HookedTrainer


class TrainingDiverged(ArithmeticError):
    """The loss or the scores are not finite any more, or the loss is far above that of a model that knows nothing."""


def broken_parameters(model: nn.Module) -> str:
    """Which parameters of a model are not finite, in words."""
    broken = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    return f"not finite: {', '.join(broken[:3])}{' and others' * (len(broken) > 3)}" if broken else "all finite"


class Divergence(Hook):
    """Checks that losses and scores are finite.

    Minus infinity, where an item is not ranked (the padding, and the history that is filtered), is no score of a model.

    Args:
        trainer: RecBole's, with the model.
    """

    def __init__(self, trainer: HookedTrainer | EvaluationTrainer):
        self._trainer, self._config = trainer, trainer.config
        self._ties_checked = False

    @contextmanager
    def around_fit(self, fit: Fit) -> Iterator[None]:
        if not fit.trains:
            yield
            return
        if fit.valid_data and self._config.eval_type == EvaluatorType.VALUE:
            self._try_first_batch(fit.valid_data)
        yield
        self._check_loss_of_best(fit.train_data._dataset.item_num)

    def _try_first_batch(self, valid_data: Any) -> None:
        """Score one batch before the training: the metrics may not take such scores."""
        self._trainer.model.eval()
        with torch.no_grad():
            first = list(range(min(valid_data.step, valid_data.sample_size)))
            self._trainer._neg_sample_batch_eval(valid_data.collate_fn(first))

    @contextmanager
    def around_evaluation(self, batches: int) -> Iterator[None]:
        self._ties_checked = False
        yield

    def after_loss(self, loss: BatchLoss) -> None:
        if not math.isfinite(loss.value):
            epoch = len(self._trainer.history or ()) + 1
            raise TrainingDiverged(
                f"the training loss became {loss.value} in epoch {epoch} (parameters "
                f"{broken_parameters(self._trainer.model)}); {self._remedy()}"
            )

    def after_scoring(self, scored: Scored) -> None:
        if scored.all_items:
            self._check_ranking(scored)
        else:
            self._check_candidates(scored)

    def _check_ranking(self, scored: Scored) -> None:
        scores, history = scored.scores, scored.batch[1]
        ranked = torch.ones_like(scores, dtype=torch.bool)
        ranked[:, 0] = False
        if history is not None:
            ranked[history] = False
        self._check_finite(scores.isfinite() | ~ranked)
        if not self._ties_checked:
            self._ties_checked = True
            high, low = scores.amax(1), scores.masked_fill(~ranked, math.inf).amin(1)
            if len(scores) and scores.shape[1] > 2 and (high <= low).all():
                self._trainer.logger.warning(
                    "all items have the same score, after every history of the first batch: the ranking is that of "
                    "their numbers, and the metrics say nothing about the model"
                )

    def _check_candidates(self, scored: Scored) -> None:
        scores = scored.scores
        if self._config.eval_type == EvaluatorType.RANKING:
            interaction, rows = scored.batch[:2]
            scores = scores[rows, interaction[self._config.ITEM_ID_FIELD]]
        self._check_finite(scores.isfinite())
        asked = [name for name in self._config.metrics if name.lower() == "logloss"]
        if asked and not ((scores >= 0) & (scores <= 1)).all():
            raise InputError(
                f"metrics: {asked[0]} needs probabilities, and the scores of {self._config.model} are not (one is "
                f"{scores[(scores < 0) | (scores > 1)][0]:.3g}); leave it out"
            )

    def _check_finite(self, fine: Tensor) -> None:
        if fine.all():
            return
        trainer = self._trainer
        what = f"{self._config.model}'s scores are not all numbers (parameters {broken_parameters(trainer.model)})"
        if trainer.history is None:
            raise InputError(f"{what}: its training diverged, or its file is damaged; train it anew")
        raise TrainingDiverged(f"{what} after epoch {len(trainer.history)}; {self._remedy()}")

    def _check_loss_of_best(self, n_items: int) -> None:
        """Refuse a model whose loss is far above that of giving all items the same score.

        Only models of this package are checked: the losses of others have more in them than the cross-entropy of the
        next item.
        """
        trainer = self._trainer
        if not (self._config.is_packed and self._config.loss_type == "CE" and trainer.history):
            return
        epoch, of_uniform = trainer.history[trainer.best_epoch() - 1], math.log(max(n_items - 1, 2))
        if epoch["train_loss"] > 2 * of_uniform + 2:
            raise TrainingDiverged(
                f"the training diverged: in epoch {epoch['epoch']}, the best one, its loss was "
                f"{epoch['train_loss']:.4g}, and a model that gives all {n_items - 1:,} items the same score has "
                f"{of_uniform:.3g}; {self._remedy()}"
            )

    def _remedy(self) -> str:
        remedy = f"lower learning_rate ({self._config.learning_rate}) or set clip_grad_norm: {{'max_norm': 1.0}}"
        kept = Path(self._trainer.saved_model_file)
        if kept.exists():
            return f"{remedy}. The best model so far is {kept}"
        return remedy if self._trainer.history else f"{remedy}. No epoch was completed"
