"""A training that came to nothing is an error in one sentence, and never a metric."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from recbole.utils import EvaluatorType
from torch import Tensor, nn

from recbole_ssm.errors import InputError


class TrainingDiverged(ArithmeticError):
    """The training loss or the scores are no numbers any more, or the model knows less than nothing."""


def broken_parameters(model: nn.Module) -> str:
    """Which parameters of a model are not finite, in words."""
    broken = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    return f"not finite: {', '.join(broken[:3])}{' and others' * (len(broken) > 3)}" if broken else "all finite"


class DivergenceChecks:
    """Mixed into the trainer that RecBole has for a model: loss and scores must be numbers.

    Minus infinity for what is not ranked (the padding, and the history that is filtered) is no score of the model.
    """

    _tied = False

    def fit(self, train_data, valid_data=None, *args, **kwargs):
        if valid_data and self.config["eval_type"] == EvaluatorType.VALUE:
            self.model.eval()  # one batch, before the training: scores may be none that the metrics take
            with torch.no_grad():
                self._neg_sample_batch_eval(
                    valid_data.collate_fn(list(range(min(valid_data.step, valid_data.sample_size))))
                )
        found = super().fit(train_data, valid_data, *args, **kwargs)
        self._check_knows_something(train_data._dataset.item_num)
        return found

    def evaluate(self, *args, **kwargs):
        self._tied = False
        return super().evaluate(*args, **kwargs)

    def _full_sort_batch_eval(self, batched_data):
        found = super()._full_sort_batch_eval(batched_data)
        scores, history = found[1], batched_data[1]
        if scores is None:  # another process has this batch
            return found
        ranked = torch.ones_like(scores, dtype=torch.bool)
        ranked[:, 0] = False
        if history is not None:
            ranked[history] = False
        self._check_scores(scores.isfinite() | ~ranked)
        if not self._tied:
            self._tied = True
            high, low = scores.amax(1), scores.masked_fill(~ranked, math.inf).amin(1)
            if len(scores) and scores.shape[1] > 2 and (high <= low).all():
                self.logger.warning(
                    "all items have the same score, after every history of the first batch: the ranking is that of "
                    "their numbers, and the metrics say nothing about the model"
                )
        return found

    def _neg_sample_batch_eval(self, batched_data):
        found = super()._neg_sample_batch_eval(batched_data)
        interaction, scores = found[:2]
        if scores is None:
            return found
        if self.config["eval_type"] == EvaluatorType.RANKING:
            scores = scores[batched_data[1], interaction[self.config["ITEM_ID_FIELD"]]]
        self._check_scores(scores.isfinite())
        asked = [name for name in self.config["metrics"] if name.lower() == "logloss"]
        if asked and not ((scores >= 0) & (scores <= 1)).all():
            raise InputError(
                f"metrics: {asked[0]} is of probabilities, and {self.config['model']}'s scores are none (one is "
                f"{scores[(scores < 0) | (scores > 1)][0]:.3g}); leave it out"
            )
        return found

    def _check_scores(self, fine: Tensor) -> None:
        if fine.all():
            return
        what = f"{self.config['model']}'s scores are not all numbers (parameters {broken_parameters(self.model)})"
        if not hasattr(self, "history"):
            raise InputError(f"{what}: its training diverged, or its file is damaged; train it anew")
        raise TrainingDiverged(f"{what} after epoch {len(self.history)}; {self._remedy()}")

    def _check_nan(self, loss):
        if torch.isfinite(loss):
            super()._check_nan(loss)
            return
        raise TrainingDiverged(
            f"the training loss became {loss.item()} in epoch {len(self.history) + 1} (parameters "
            f"{broken_parameters(self.model)}); {self._remedy()}"
        )

    def _check_knows_something(self, n_items: int) -> None:
        """Refuse a model whose loss is far above that of giving all items the same score.

        Of this package's models alone: losses of others have more in them than the cross-entropy of the next item.
        """
        if not (self.config.is_packed and self.config["loss_type"] == "CE" and self.history):
            return
        epoch, of_nothing = self.history[self.best_epoch() - 1], math.log(max(n_items - 1, 2))
        if epoch["train_loss"] > 2 * of_nothing + 2:
            raise TrainingDiverged(
                f"the training diverged: in epoch {epoch['epoch']}, the best one, its loss was "
                f"{epoch['train_loss']:.4g}, and a model that gives all {n_items - 1:,} items the same score has "
                f"{of_nothing:.3g}; {self._remedy()}"
            )

    def _remedy(self) -> str:
        kept, remedy = Path(self.saved_model_file), f"lower learning_rate ({self.config['learning_rate']}) or set "
        remedy += "clip_grad_norm: {'max_norm': 1.0}"
        if kept.exists():
            return f"{remedy}. The best model so far is {kept}"
        return remedy if self.history else f"{remedy}. No epoch was completed"
