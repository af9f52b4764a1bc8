"""A search by Ray Tune: random trials, several at a time; those that fall behind are stopped early (ASHA).

Importing this module imports Ray, of which 2.6.3 (the last that RecBole allows) and current ones do.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # which prints a heading whatever it is asked for
import pyarrow  # noqa: F401  (Ray asks for it once all trials are done)
import ray
from ray import tune

from recbole_ssm.errors import InputError
from recbole_ssm.studies.tuning.trials import Task
from recbole_ssm.training.hooks.stopping import Interrupted

if hasattr(tune, "RunConfig"):
    _RunConfig, _report = tune.RunConfig, tune.report
else:
    from ray.air import RunConfig as _RunConfig
    from ray.air.session import report as _report

CUT = 3
"""ASHA's reduction factor: one in so many trials goes on at each rung."""


_ENDING = (signal.SIGTERM, signal.SIGINT)


class _Signals:
    """Handlers of SIGTERM and Ctrl-C, with which a search ends in order at any moment.

    Ray ends a search in order on Ctrl-C only, and only while ``Tuner.fit`` runs. While it starts or shuts down a signal
    is noted, as an exception there leaves it in pieces.
    """

    def __init__(self) -> None:
        self.told: list[int] = []
        """The signals that came."""
        self.fitting = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.told.append(number)
        if not self.fitting:
            return
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """As long as the context lasts these are the handlers. Other threads than the main one cannot have any."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _ENDING}
        self.handle()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle(self) -> None:
        """Set the handlers, also once Ray has started: its C++ core has set one of its own then, which aborts."""
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                signal.signal(number, self._note)


def search(
    task: Task,
    settings: Sequence[dict[str, Any]],
    *,
    bigger: bool,
    epochs: int,
    first_epochs: int,
    cpus: int | None,
    gpus: float | None,
    address: str | None,
    ended: Callable[[dict[str, Any], str | None], object],
) -> None:
    """Do the trials, those that are done before by their records.

    Args:
        task: what is tuned; on a cluster its folder must be the same on all machines.
        settings: the values of each trial, all different.
        bigger: whether a greater score is better.
        epochs: of a trial at most.
        first_epochs: before which no trial is stopped.
        cpus: cores for each trial; None divides those there are by the number of trials.
        gpus: GPUs for each trial, also a part of one; None is a quarter where there are any.
        address: of a Ray cluster; None starts one on this machine for as long as the search takes.
        ended: is told the values of each trial that has ended, and the error if it has failed.

    Raises:
        InputError: there is no cluster at the address, Ray does not start, or it has less than a trial is to have.
        Interrupted: SIGTERM or Ctrl-C, before all have ended; the trials that go on are kept as they stand.
    """
    signals = _Signals()
    watching = _Ended(ended, signals.told)
    with signals.noted():
        try:
            _connect(address)
            signals.handle()
            if not signals.told:
                machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
                early = _early_stopping(epochs, first_epochs)
                tuner = _tuner(task, settings, bigger, _share(machines, len(settings), cpus, gpus), early, watching)
                signals.fitting = True
                tuner.fit()
        except (InputError, KeyboardInterrupt):
            if not signals.told:  # one may have ended Ray's processes before this one
                raise
        finally:
            signals.fitting = False
            ray.shutdown()
    if signals.told or watching.number < len(settings):  # Ray takes an interruption for the end
        raise Interrupted(signals.told[0] if signals.told else signal.SIGINT, task.folder, again="the same command")


def _early_stopping(epochs: int, first_epochs: int) -> tune.schedulers.TrialScheduler:
    """ASHA: Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys 2020)."""
    return tune.schedulers.ASHAScheduler(
        time_attr="epoch",
        max_t=epochs + 1,  # not met: a trial that has done all its epochs ends by itself
        grace_period=min(first_epochs, epochs),
        reduction_factor=CUT,
    )


def _tuner(
    task: Task,
    settings: Sequence[dict[str, Any]],
    bigger: bool,
    share: tuple[int, float],
    early: tune.schedulers.TrialScheduler,
    watching: tune.Callback,
) -> tune.Tuner:
    """The search for Ray; its files go to ``ray/`` in the task's folder, and are not read again."""
    cpus, gpus = share
    threads = None if "OMP_NUM_THREADS" in os.environ else max(1, cpus)
    own = Path(task.folder).absolute() / "ray"
    shutil.rmtree(own, ignore_errors=True)  # what is needed of a search is in the records of its trials
    return tune.Tuner(
        tune.with_resources(partial(_trial, task, threads, os.getcwd()), {"cpu": cpus, "gpu": gpus}),
        param_space={"params": tune.grid_search(list(settings))},
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max" if bigger else "min",
            scheduler=early,
            reuse_actors=False,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=_RunConfig(name=own.name, storage_path=str(own.parent), verbose=0, callbacks=[watching]),
    )


class _Ended(tune.Callback):
    """Passes on the trials that Ray says have ended."""

    def __init__(self, ended: Callable[[dict[str, Any], str | None], object], told: Sequence[int]) -> None:
        self._ended, self._told = ended, told
        self.number = 0

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        self.number += 1
        self._ended(trial.config["params"], None)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        if self._told:
            return  # it was stopped with the search, by a signal to all processes, and goes on with it
        self.number += 1
        self._ended(trial.config["params"], "the process of the trial has ended")

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray writes down all it is given, to restore it; here the records of trials are for that


def _trial(task: Task, threads: int | None, folder: str, given: dict[str, Any]) -> None:
    """Do a trial in a process of Ray; relative paths start where the search was started."""
    os.chdir(folder)
    if threads is not None:
        torch.set_num_threads(threads)
    task.train(given["params"], lambda epoch, score: _report({"epoch": epoch, "score": score}))


def _connect(address: str | None) -> None:
    if address is None:
        _start()
        return
    host, colon, port = address.removeprefix("ray://").partition(":")
    try:
        if colon:  # Ray itself tries for a minute
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise InputError(
            f"there is no Ray cluster at --address={address} ({str(error).splitlines()[0]}); give HOST:PORT as "
            "'ray start --head' prints it, or auto for one on this machine, or leave --address out to start one"
        ) from error


def _start() -> None:
    """Start Ray on this machine. It waits half a minute for its own processes, and raises a bare ``Exception`` then."""
    try:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"Ray did not start on this machine ({reason.rstrip('.')}), as happens where it is busy; give the same "
            "command again, which goes on with the trials that there are; --tool=hyperopt searches without Ray"
        ) from error


def _share(
    machines: Sequence[dict[str, float]], trials: int, cpus: int | None, gpus: float | None
) -> tuple[int, float]:
    """Cores and GPUs for each trial; a trial runs on one machine."""
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    most_gpus = max(machine.get("GPU", 0) for machine in machines)
    cpus = max(1, min(sum(cores) // trials, max(cores))) if cpus is None else cpus
    gpus = (0.25 if most_gpus else 0.0) if gpus is None else gpus
    if not any(cpus <= machine.get("CPU", 0) and gpus <= machine.get("GPU", 0) for machine in machines):
        raise InputError(
            f"no machine of Ray's has what a trial is to have, {cpus} CPU cores and {gpus:g} GPUs (at most it has "
            f"{max(cores)} and {most_gpus:g}); give less with --cpus_per_trial and --gpus_per_trial"
        )
    return cpus, gpus
