"""The command line: ``python run_recbole_ssm.py`` and ``python -m recbole_ssm``."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from recbole_ssm.cli.parser import PROGRAM, joined
from recbole_ssm.cli.verbs import VERBS, find_verb
from recbole_ssm.errors import CheckpointNotWritten, FolderMissing, InputError
from recbole_ssm.system.distributed import rank
from recbole_ssm.system.terminal import complain, printable, printable_warnings
from recbole_ssm.system.version import __version__
from recbole_ssm.training.hooks.divergence import TrainingDiverged
from recbole_ssm.training.hooks.stopping import Interrupted

_SWITCHES = ("--trust_checkpoint", "--trust_dataset", "--skip_unknown", "--overwrite", "--row_order", "--verbose")
"""May stand without a value, which is True then."""


def program() -> NoReturn:
    """The program ``recbole-ssm``: :func:`main` in a process of its own, which ends.

    Python takes up to a second to leave. Ctrl-C within that time would show a traceback of whatever is cleaned up, and
    end with the status 0.
    """
    try:
        status = main()
        signal.signal(signal.SIGINT, _leave)
    except KeyboardInterrupt:
        _say_interrupted()
        status = 128 + signal.SIGINT
    sys.exit(status)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    _say_interrupted()
    os._exit(128 + number)


def _say_interrupted() -> None:
    if rank() == 0:
        print("interrupted", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Args:
        arguments: without the program's name; by default those of this process. The first may be a verb; without one it
            is ``train``. None at all show the usage.

    Returns:
        Exit status: 0 done, 1 the training diverged, failed or could not be saved, 2 something in the arguments or the
        data cannot be used, 128 + N signal N stopped the training.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with printable_warnings():
            _do(joined(arguments, _SWITCHES))
        sys.stdout.flush()
    except UnicodeEncodeError as error:
        return _failed(f"{error.object!r} cannot be printed in {error.encoding}; set PYTHONUTF8=1", 2)
    except BrokenPipeError:  # who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13  # SIGPIPE's number, which Windows' Python does not know
    except FolderMissing as error:
        return _failed(error.of_command(), 2)
    except InputError as error:
        return _failed(error, 2)
    except (TrainingDiverged, CheckpointNotWritten) as error:
        return _failed(error, 1)
    except Interrupted as error:
        if rank() == 0:
            print(printable(error), file=sys.stderr)
        return 128 + error.signal_number
    except KeyboardInterrupt:
        _say_interrupted()
        return 128 + signal.SIGINT
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return _failed(f"{error.filename!r} is too long for the name of a file", 2)
        log = getattr(error, "log_file", None)
        if log is None:
            raise
        return _failed(f"{type(error).__name__}: {error}; {log} has its traceback", 1)
    return 0


def _failed(why: object, status: int) -> int:
    complain("error", why)
    return status


def _do(arguments: list[str]) -> None:
    if "--version" in arguments:
        print("recbole-ssm", __version__)
        return
    name, *words = arguments or ["--help"]
    if name.startswith("-") or "=" in name:
        name, words = VERBS[0], [name, *words]
    verb = find_verb(name)
    parser = verb.parser()
    if {"-h", "--help"} & set(words):
        print(printable(parser.help(words)))
        return
    given, keys = parser.parse(words)
    given.command = f"{PROGRAM} {name} {shlex.join(words)}"
    verb.call(given, keys)
