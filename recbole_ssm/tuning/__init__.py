"""Searching for the settings of a model with which its validation metric is best, by Ray Tune or by hyperopt."""

from recbole_ssm.tuning.command import tune
from recbole_ssm.tuning.space import Parameter, read_space
from recbole_ssm.tuning.trials import Task

__all__ = ["Parameter", "Task", "read_space", "tune"]
