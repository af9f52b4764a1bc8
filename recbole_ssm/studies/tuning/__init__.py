"""Searching for the settings of a model with which its validation metric is best, by Ray Tune or by hyperopt."""

from recbole_ssm.studies.tuning.command import tune
from recbole_ssm.studies.tuning.space import Parameter, read_space
from recbole_ssm.studies.tuning.trials import Task

__all__ = ["Parameter", "Task", "read_space", "tune"]
