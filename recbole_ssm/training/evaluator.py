"""RecBole's evaluator, with the metric that models are chosen by before it is rounded."""

from __future__ import annotations

from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metrics_dict

from recbole_ssm.config.config import Config

_DIGITS = 15
"""Rounding to so many decimals changes no more than the last digits of a float64."""


class ExactEvaluator(Evaluator):
    """RecBole's evaluator, which rounds metrics to ``metric_decimal_place``, and also keeps one that is not rounded.

    Args:
        config: the configuration of the trainer that it is for.

    Attributes:
        valid_score: ``valid_metric`` of the last evaluation, not rounded.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._name = config.valid_metric.lower()
        self._metric = metrics_dict[self._name.partition("@")[0]](config)
        self._metric.decimal_place = _DIGITS
        self.valid_score = 0.0

    def evaluate(self, dataobject: DataStruct) -> dict[str, float]:
        """Compute the metrics as RecBole does, and set ``valid_score``."""
        self.valid_score = float(self._metric.calculate_metric(dataobject)[self._name])
        return super().evaluate(dataobject)
