"""The log files of a run, and what a person sees of them."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from colorama.initialise import reset_all
from recbole.utils import init_logger

from recbole_ssm.config.config import Config
from recbole_ssm.system.console_log import ForPeople, OnStandardError
from recbole_ssm.system.distributed import broadcast
from recbole_ssm.system.terminal import Console, PrintableLog
from recbole_ssm.training import json_log


@contextmanager
def run_logs(config: Config) -> Iterator[Console]:
    """RecBole's log file for the time of one run, so that the next one gets its own; and what ``console`` asks for.

    Where the caller has handlers, they get the log lines and warnings, and the console only what is meant for people.

    Args:
        config: the configuration.

    Yields:
        Where text for people goes.
    """
    root, console = logging.getLogger(), Console(quiet=config.console == "none")
    before, level = list(root.handlers), root.level
    file, screen = _recboles_handlers(config)
    added: list[logging.Handler] = [file]
    if config.console == "quiet":
        added.insert(0, ForPeople(console, logging.CRITICAL + 1 if before else logging.WARNING))
    elif config.console == "verbose" and not before:
        added.insert(0, OnStandardError())  # first: RecBole takes the colours from what it writes to its file
        added[0].setFormatter(screen.formatter)
    for handler in added:
        handler.setLevel(file.level)
        handler.addFilter(PrintableLog())
    root.handlers = before + added
    try:
        with json_log.beside(added):
            yield console
    except Exception as error:
        _keep_traceback(file, error, named=config["console"] != "verbose")
        raise
    finally:
        for handler in added:
            root.removeHandler(handler)
            with suppress(OSError):  # the disk is full
                handler.close()
        root.setLevel(level)


def _recboles_handlers(config: Config) -> tuple[logging.FileHandler, logging.Handler]:
    """RecBole's two handlers, for its log file and the screen. The root logger has its level, but not them.

    RecBole names the file by the second and a hash of the configuration. A value that no other run has goes into that
    hash, so that two runs never share a file.
    """
    root, values, streams = logging.getLogger(), config.final_config_dict, (sys.stdout, sys.stderr)
    values["run"] = broadcast(f"{os.getpid()} {time.time_ns()}")
    before = list(root.handlers)
    root.handlers = []  # with any, RecBole adds none
    try:
        init_logger(config)
        screen, file = root.handlers
    finally:
        root.handlers = before
        sys.stdout, sys.stderr = streams  # which RecBole wraps once more in each run, to colour them on old Windows
        del values["run"]
    assert isinstance(file, logging.FileHandler) and file.stream is not None
    file.stream.reconfigure(encoding="utf-8")  # whatever the locale is: names of items may hold any character
    atexit.unregister(reset_all)  # of RecBole's colours, on terminals that have none, too
    return file, screen


def _keep_traceback(log: logging.FileHandler, error: Exception, *, named: bool) -> None:
    """Write the traceback of an error into a log file; the error may get the file's name as ``log_file``."""
    record = logging.getLogger().makeRecord(
        "root", logging.ERROR, __file__, 0, "the run ends here", (), (type(error), error, error.__traceback__)
    )
    log.handle(record)
    if named:
        error.__dict__["log_file"] = Path(log.baseFilename)
