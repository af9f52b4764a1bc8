"""Checks of a search, before anything is trained."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from importlib import import_module

from recbole_ssm.config.command_line import key_of
from recbole_ssm.config.config import Config
from recbole_ssm.config.splits import DECIDE_THE_TEST
from recbole_ssm.data.atomic_files import check_atomic_files
from recbole_ssm.errors import InputError
from recbole_ssm.studies.tuning.space import Parameter
from recbole_ssm.studies.tuning.trials import SET_BY_TUNE, Task
from recbole_ssm.studies.tuning.with_hyperopt import ALGORITHMS

TOOLS = ("ray", "hyperopt")

_NOT_SEARCHED = {
    *("model", "dataset", "epochs", "eval_step", "gpu_id", "state"),
    *("metrics", "topk", "valid_metric", "metric_decimal_place"),
    *DECIDE_THE_TEST,
    *SET_BY_TUNE,
}


def check_tool(tool: str, algorithm: str) -> None:
    """Raise InputError if a tool or an algorithm is unknown, or the tool is not installed."""
    if tool not in TOOLS:
        raise InputError(f"--tool={tool} must be {' or '.join(TOOLS)}")
    if algorithm not in ALGORITHMS:
        raise InputError(f"--algo={algorithm} must be {' or '.join(ALGORITHMS)}")
    error = _import_error(tool)
    if error is None:
        return
    other = TOOLS[1 - TOOLS.index(tool)]
    instead = f", or use --tool={other}, which is installed" if _import_error(other) is None else ""
    raise InputError(
        f"--tool={tool} needs packages that are not installed here ({error}): pip install 'recbole-ssm[tune]'{instead}"
    ) from error


def _import_error(tool: str) -> Exception | None:
    sigterm = signal.getsignal(signal.SIGTERM)
    try:
        import_module("recbole_ssm.studies.tuning.with_ray" if tool == "ray" else "hyperopt")
    except (ImportError, AttributeError) as error:  # an old Ray asks numpy for names that a new one has no more
        return error
    finally:
        if sigterm is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, sigterm)  # Ray sets a handler of its own when it is imported
    return None


def checked_config(task: Task, space: Sequence[Parameter], tool: str) -> Config:
    """Check the configuration with each value of a choice, and with the ends of each range.

    Args:
        task: what is tuned.
        space: the parameters.
        tool: one of :data:`TOOLS`.

    Returns:
        The first of them.

    Raises:
        InputError: something cannot be used.
    """
    first = {parameter.name: parameter.telling[0] for parameter in space}
    for name in first:
        if name in _NOT_SEARCHED:
            raise InputError(f"{name} cannot be searched: trials are compared by it, or kept by it; remove its line")
    for key in map(key_of, task.keys):
        if key in first:
            raise InputError(f"{key} is in the params file; leave --{key} out, or its line there")
        if key in SET_BY_TUNE:
            raise InputError(f"tune sets {key} itself; leave --{key} out")
    config = task.config(first)
    if tool == "ray" and "gpu_id" in config.external_config_dict:
        raise InputError("Ray gives each trial a GPU of those that CUDA_VISIBLE_DEVICES shows; leave gpu_id out")
    for parameter in space:
        for value in parameter.telling:
            note = task.config(first | {parameter.name: value}).passed_over.get(parameter.name)
            if note is not None:
                raise InputError(f"the params file has a line that does nothing: {note}")
    if config.eval_step > config.epochs:
        raise InputError(
            f"a search compares by validation: eval_step {config.eval_step} must be 1 to epochs ({config.epochs})"
        )
    if not config.held_out[0]:
        split = config.eval_args["split"]
        raise InputError(f"a search compares by validation, for which eval_args: split {split!r} leaves no data")
    check_atomic_files(config)
    return config
