"""A search by hyperopt, through RecBole's ``HyperTuning``: one trial after the other, each learning from the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from math import inf
from typing import Any

from recbole.trainer import HyperTuning

from recbole_ssm.studies.tuning.space import Parameter
from recbole_ssm.studies.tuning.trials import Task
from recbole_ssm.system.environment import environment
from recbole_ssm.training.hooks.stopping import Interrupted

ALGORITHMS = ("bayes", "random")
"""RecBole's words for how the next trial is chosen: by a tree of Parzen estimators, or by chance."""


def search(
    task: Task,
    space: Sequence[Parameter],
    *,
    trials: int,
    bigger: bool,
    algorithm: str,
    seed: int,
    ended: Callable[[dict[str, Any]], object],
) -> None:
    """Do the trials, those that are done before by their records: the same seed and scores lead to the same trials.

    Args:
        task: what is tuned.
        space: the parameters.
        trials: how many.
        bigger: whether a greater score is better.
        algorithm: one of :data:`ALGORITHMS`.
        seed: of the search.
        ended: is told the values of each trial that has ended.

    Raises:
        ImportError: hyperopt is not installed.
        Interrupted: in the midst of a trial.
    """
    by_kind: dict[str, dict[str, list[Any]]] = {}  # not the file itself, whose words RecBole runs as Python
    for parameter in space:
        by_kind.setdefault(parameter.kind, {})[parameter.name] = list(parameter.values)
    objective = _objective(task, space, bigger, ended)
    tuning = HyperTuning(objective, params_dict=by_kind, algo=algorithm, max_evals=trials, early_stop=trials + 1)
    with (
        environment(HYPEROPT_FMIN_SEED=str(seed)),  # HyperTuning hands on no seed
        redirect_stdout(StringIO()),  # HyperTuning prints what ``ended`` tells
        redirect_stderr(StringIO()),
    ):
        tuning.run()


def _objective(
    task: Task, space: Sequence[Parameter], bigger: bool, ended: Callable[[dict[str, Any]], object]
) -> Callable[[dict[str, Any], object], dict[str, Any]]:
    """A function that HyperTuning calls for each trial, with the values that it has drawn."""

    def objective(drawn: dict[str, Any], _files: object) -> dict[str, Any]:
        params = {parameter.name: parameter.plain(drawn[parameter.name]) for parameter in space}
        try:
            score = task.train(params, lambda epoch, score: None).score
        except Interrupted:
            raise
        except Exception:
            score = -inf if bigger else inf  # its record says why, and the search goes on
        ended(params)
        return {
            "model": task.model,
            "best_valid_score": score,
            "valid_score_bigger": bigger,
            "best_valid_result": None,
            "test_result": None,
        }

    return objective
