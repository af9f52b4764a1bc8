"""The command line: ``python run_recbole_ssm.py`` and ``python -m recbole_ssm``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from recbole_ssm.cli.arguments import VERBS, joined
from recbole_ssm.cli.compare import compare_models
from recbole_ssm.cli.evaluate import evaluate_model
from recbole_ssm.cli.inspect import inspect_checkpoint
from recbole_ssm.cli.recommend import recommend_items
from recbole_ssm.cli.scaling import scaling_of_models
from recbole_ssm.cli.sweep import sweep_values
from recbole_ssm.cli.train import train
from recbole_ssm.cli.tune import tune_model
from recbole_ssm.errors import CheckpointNotWritten, InputError, did_you_mean
from recbole_ssm.system.terminal import printable, printable_warnings
from recbole_ssm.system.version import __version__
from recbole_ssm.training.hooks.divergence import TrainingDiverged
from recbole_ssm.training.hooks.stopping import Interrupted

_DOES = {
    "train": train,
    "evaluate": evaluate_model,
    "inspect": inspect_checkpoint,
    "recommend": recommend_items,
    "compare": compare_models,
    "sweep": sweep_values,
    "tune": tune_model,
    "scaling": scaling_of_models,
}
"""What each of :data:`VERBS` does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Args:
        arguments: without the program's name; by default those of this process. The first may be one of
            :data:`VERBS`; without one it is ``train``. None at all show the usage.

    Returns:
        Exit status: 0 done, 1 the training diverged or could not be saved, 2 something in the arguments or the data
        cannot be used, 128 + N signal N stopped the training.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with printable_warnings():
            _do(joined(arguments, ("--trust_checkpoint", "--trust_dataset", "--skip_unknown")))
        sys.stdout.flush()
    except UnicodeEncodeError as error:
        print(f"error: {error.object!r} cannot be printed in {error.encoding}; set PYTHONUTF8=1", file=sys.stderr)
        return 2
    except BrokenPipeError:  # who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # SIGPIPE's number, which Windows' Python does not know
    except InputError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2
    except (TrainingDiverged, CheckpointNotWritten) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 1
    except Interrupted as error:
        print(printable(error), file=sys.stderr)
        return 128 + error.signal_number
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _do(arguments: list[str]) -> None:
    if "--version" in arguments:
        print("recbole-ssm", __version__)
        return
    first = arguments[0] if arguments else "--help"
    if not first.startswith("-") and "=" not in first and first not in VERBS:
        hint = did_you_mean(first, VERBS) or "."
        raise InputError(f"there is no verb {first!r}{hint} Verbs: {', '.join(VERBS)}; arguments are --key=value")
    if first in VERBS:
        _DOES[first](arguments[1:])
    else:
        train(arguments or ["--help"])
