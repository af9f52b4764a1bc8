"""RecBole's LightGBM and XGBoost, which their libraries train all at once."""

from __future__ import annotations

from logging import Logger
from pathlib import Path
from time import perf_counter
from typing import Any

from recbole.trainer.trainer import DecisionTreeTrainer, LightGBMTrainer, XGBoostTrainer

from recbole_ssm.config.config import Config
from recbole_ssm.training import json_log
from recbole_ssm.training.evaluator import ExactEvaluator
from recbole_ssm.training.hooks.epoch_loss import EpochLoss
from recbole_ssm.training.hooks.history import History, best_epoch
from recbole_ssm.training.hooks.hook import Fit, Validation

_SUFFIX = {"LightGBM": ".txt", "XGBoost": ".json"}
"""By which the libraries know the format of a model file."""


class TreeTrainer(DecisionTreeTrainer):
    """RecBole's trainer of decision trees, with a history. The checkpoint is the library's own file, and no pickle.

    Args:
        config: the configuration.
        model: made from it.

    Attributes:
        history: of each epoch ``epoch`` (from 1), ``train_seconds``, and where it was validated ``valid_seconds``,
            ``valid_result`` and ``valid_score`` (``valid_metric``, not rounded).
        latest_file: what is not needed once the training is over.
        verbose: whether the log is told of each epoch.
    """

    config: Config
    logger: Logger
    saved_model_file: str
    tensorboard: Any

    def __init__(self, config: Config, model: Any):
        super().__init__(config, model)
        self.evaluator = ExactEvaluator(config)
        file = Path(self.saved_model_file)
        suffix = _SUFFIX[config.model]
        self.saved_model_file = str(file.with_name(f"{file.stem}-{config.dataset}{suffix}"))
        self.temp_best_file = self.saved_model_file
        self.temp_file = str(file.with_name(f"{file.stem}-{config.dataset}-unfinished{suffix}"))
        self.latest_file = Path(self.temp_file)
        self.tensorboard = json_log.TensorBoard(self.tensorboard)
        self.history: list[dict] = []
        self.verbose = True
        self._recorded = History(self, EpochLoss())

    def fit(
        self, train_data: Any, valid_data: Any = None, verbose: bool = True, saved: bool = True, **kwargs: Any
    ) -> tuple[float, dict[str, float] | None]:
        """RecBole's; its own log lines about epochs are off."""
        self.verbose = verbose
        with self._recorded.around_fit(Fit(train_data, valid_data, saved)):
            super().fit(train_data, valid_data, False, saved, **kwargs)
        return self.best_valid_score, self.best_valid_result

    def _train_at_once(self, train_data: Any, valid_data: Any) -> None:
        start = perf_counter()
        super()._train_at_once(train_data, valid_data)
        self.history.append({"epoch": len(self.history) + 1, "train_seconds": perf_counter() - start})
        json_log.write(self.history[-1])

    def _valid_epoch(self, valid_data: Any) -> tuple[Any, Any]:
        validation = Validation()
        with self._recorded.around_validation(validation):
            validation.score, validation.result = super()._valid_epoch(valid_data)
        return validation.score, validation.result

    def _save_checkpoint(self, epoch: int, **kwargs: Any) -> None:
        self.model.save_model(self.saved_model_file)

    def best_epoch(self) -> int:
        """See :func:`recbole_ssm.training.hooks.history.best_epoch`."""
        return best_epoch(self.config, self.history)


class _LightGBM(TreeTrainer, LightGBMTrainer):
    pass


class _XGBoost(TreeTrainer, XGBoostTrainer):
    pass


TREE_TRAINERS: dict[str, type[TreeTrainer]] = {"LightGBM": _LightGBM, "XGBoost": _XGBoost}
"""Of each model its trainer."""
