"""The log files of a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from recbole.utils import init_logger

from recbole_ssm.config.config import Config
from recbole_ssm.system.distributed import broadcast
from recbole_ssm.system.terminal import PrintableLog
from recbole_ssm.training import run_log


@contextmanager
def run_logs(config: Config) -> Iterator[None]:
    """RecBole's log file and console for the time of one run, so that the next one gets its own.

    Where the caller has handlers, they take the console's place. RecBole names the file by the second and a hash of the
    configuration. A value that no other run has goes into that hash, so that two runs never share a file.
    """
    root, values = logging.getLogger(), config.final_config_dict
    values["run"] = broadcast(f"{os.getpid()} {time.time_ns()}")
    before, level = list(root.handlers), root.level
    root.handlers = []  # with any, RecBole adds none
    try:
        init_logger(config)
        added = [handler for handler in root.handlers if not before or isinstance(handler, logging.FileHandler)]
    finally:
        root.handlers = before
        del values["run"]
    root.handlers = before + added
    for handler in added:
        handler.addFilter(PrintableLog())
    try:
        with run_log.beside(added):
            yield
    finally:
        for handler in added:
            root.removeHandler(handler)
            with suppress(OSError):  # the disk is full
                handler.close()
        root.setLevel(level)
