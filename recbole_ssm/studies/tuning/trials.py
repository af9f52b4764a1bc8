"""The trials of a search: each is trained once, and kept in a folder of its own with all that it gave."""

from __future__ import annotations

import ast
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from recbole_ssm.config.config import Config
from recbole_ssm.model.registry import MODELS
from recbole_ssm.studies.run_store import Run, RunStore
from recbole_ssm.training.hooks.history import exact_score, seconds_of
from recbole_ssm.training.hooks.stopping import Interrupted
from recbole_ssm.training.run import run

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"
"""How a trial ends: it had all its epochs; the search gave it up; an error ended it."""

SET_BY_TUNE = {"checkpoint_dir", "dataset_cache", "show_progress", "console"}
"""Configuration keys that each trial gets from the search."""

EpochReport = Callable[[int, float], None]
"""Is told an epoch, from 1, and the best score until then."""


@dataclass
class Trial:
    """The record of a trial, which ``trial.json`` keeps."""

    params: dict[str, Any]
    """The values of the parameters."""
    began: float = field(default_factory=time.time)
    """Seconds since 1970."""
    ended: str | None = None
    """``finished``, ``stopped``, ``failed``, or None while the trial goes on."""
    error: str | None = None
    """Why it failed."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """See :class:`recbole_ssm.training.trainer.HookedTrainer`."""
    best_scores: list[float | None] = field(default_factory=list)
    """By epoch the score of the best one until then; None before the first validation and where none was made."""
    score: float | None = None
    """That of the best epoch, not rounded."""
    bigger: bool = True
    """Whether a greater score is better."""
    best_epoch: int | None = None
    """The epoch, from 1, whose weights RecBole keeps: the best by the rounded score, of equal ones the last."""
    checkpoint: str | None = None
    """Name of the file with the weights of the best epoch."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Trial:
        """The record as a file has it; what it leaves out is at its default."""
        names = {each.name for each in fields(cls)}
        trial = cls(**{name: value for name, value in content.items() if name in names})
        if trial.best_epoch is None and trial.score is not None:  # of an earlier version
            trial.best_epoch = trial.best_scores.index(trial.score) + 1
        return trial

    @property
    def counts(self) -> bool:
        """Whether the trial has a score, and has not failed after that."""
        return self.score is not None and self.ended != FAILED

    def update(self, history: list[dict[str, Any]], checkpoint: str | Path, config: Config) -> None:
        """Note what the epochs so far gave."""
        self.bigger = bool(config.valid_metric_bigger)
        better, metric = (max if self.bigger else min), config.valid_metric.lower()
        self.history, self.best_scores, self.score = history, [], None
        most: float | None = None
        for number, epoch in enumerate(history, 1):
            rounded = epoch.get("valid_result", {}).get(metric)  # by which RecBole chooses the weights
            if rounded is not None and (most is None or better(most, rounded) == rounded):
                most, self.best_epoch, self.score = rounded, number, exact_score(epoch, metric)
            self.best_scores.append(None if rounded is None else self.score)
        self.checkpoint = Path(checkpoint).name

    def report(self, told: int, report: EpochReport) -> int:
        """Report the epochs after the first ``told``; returns how many epochs there are."""
        for epoch, score in enumerate(self.best_scores[told:], told + 1):
            if score is not None:
                report(epoch, score)
        return len(self.best_scores)


@dataclass(frozen=True)
class Task:
    """What is tuned, in plain values, which any process can be sent.

    Args:
        model: name.
        dataset: name.
        folder: where trials are kept.
        files: config files for all trials.
        keys: arguments ``--key=value`` for all trials.
    """

    model: str
    dataset: str
    folder: str
    files: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def store(self) -> RunStore:
        """Where trials are kept."""
        return RunStore(Path(self.folder))

    def place(self, params: dict[str, Any]) -> Path:
        """The folder of the trial with these values."""
        return self._files(params).record_file.parent

    def checkpoint(self, trial: Trial) -> Path:
        """The weights of a trial's best epoch."""
        return self.place(trial.params) / "checkpoints" / str(trial.checkpoint)

    def config(self, params: dict[str, Any]) -> Config:
        """The configuration of the trial with these values."""
        return Config(self.model, self.dataset, self._config_files(params), self._own(params), self.keys)

    def train(self, params: dict[str, Any], report: EpochReport) -> Trial:
        """Do a trial, go on with one that was interrupted, or repeat what one that is done has reported.

        What RecBole logs goes to ``train.log`` in the trial's folder.

        Args:
            params: its values.
            report: is told of each epoch that was validated.

        Returns:
            Its record.

        Raises:
            Interrupted: the same call goes on with it.
            Exception: whatever went wrong; the record says so too.
        """
        trial = self.trial(params)
        if trial is not None and trial.ended in (FINISHED, STOPPED):
            trial.report(0, report)
            return trial
        if trial is None or trial.ended == FAILED:
            trial = Trial(params)
            self.keep(trial)
        try:
            return self._train(trial, report)
        except Interrupted as stop:
            raise Interrupted(stop.signal_number, self.folder, again="the same command") from stop
        except Exception as error:
            self.keep(replace(trial, ended=FAILED, error=f"{type(error).__name__}: {error}"))
            raise

    def _train(self, trial: Trial, report: EpochReport) -> Trial:
        told = 0

        def after_epoch(trainer: Any) -> None:
            nonlocal told
            trial.update(trainer.history, trainer.saved_model_file, trainer.config)
            if _is_over(trainer):  # noted before the report: the search may end this process when it hears of it
                trial.ended = FINISHED
            self.keep(trial)
            told = trial.report(told, report)

        files = self._files(trial.params)
        with files.log.open("a", encoding="utf-8") as log, redirect_stdout(log), redirect_stderr(log):
            result = run(
                self.model,
                self.dataset,
                self._config_files(trial.params),
                self._own(trial.params),
                command_line=self.keys,
                resume=True,
                after_epoch=after_epoch,
                test=False,
                watch=files.watch(),
            )
        # Once more: the last epoch is validated at the end, or was the last of a trial that was interrupted behind it.
        trial.update(result["history"], result["checkpoint"], self.config(trial.params))
        trial.ended = FINISHED
        self.keep(trial)
        trial.report(told, report)
        return trial

    def trial(self, params: dict[str, Any]) -> Trial | None:
        """The record of the trial with these values, or None if it was not begun."""
        return _read(self._files(params))

    def trials(self) -> list[Trial]:
        """The records of all trials, in the order in which they began."""
        found = [_read(files) for files in self.store.trials()]
        return sorted((trial for trial in found if trial is not None), key=lambda trial: trial.began)

    def progress(self, number: int) -> tuple[float, str]:
        """The share that is done, at least, of so many trials, and that in words."""
        trials = self.trials()
        ended = sum(trial.ended is not None for trial in trials)
        going = sum(self._files(trial.params).share_done()[0] for trial in trials if trial.ended is None)
        return min((ended + going) / number, 1.0), f"{min(ended, number)}/{number} trials"

    def end(self, params: dict[str, Any], error: str | None = None) -> Trial:
        """Note that the search is done with a trial, and keep the weights of the best of those that have ended.

        Args:
            params: the values of the trial.
            error: what ended it, if nothing else is known of its end.

        Returns:
            Its record.
        """
        trial = self.trial(params) or Trial(params)
        if trial.ended is None:
            trial.ended, trial.error = FAILED if error else STOPPED, error
            self.keep(trial)
        ended = [other for other in self.trials() if other.ended]
        winner = best(ended)
        for other in ended:
            kept = self.place(other.params) / "checkpoints"
            if winner is None or other.params != winner.params:
                shutil.rmtree(kept, ignore_errors=True)
            for file in kept.glob("*.latest.pth"):  # of a process that the search has ended
                file.unlink(missing_ok=True)
        return trial

    def keep(self, trial: Trial) -> None:
        """Write the record of a trial."""
        self._files(trial.params).keep(asdict(trial))

    def _files(self, params: dict[str, Any]) -> Run:
        text = json.dumps(params, sort_keys=True)
        return self.store.trial(blake2b(text.encode(), digest_size=6).hexdigest())

    def _config_files(self, params: dict[str, Any]) -> list[Any]:
        """The config files, and the values of the trial, which stand above them."""
        return [*self.files, {name: _read_literal(value) for name, value in params.items()}]

    def _own(self, params: dict[str, Any]) -> dict[str, Any]:
        """The keys of :data:`SET_BY_TUNE`."""
        own = {"checkpoint_dir": str(self.place(params) / "checkpoints"), "show_progress": False, "console": "verbose"}
        return own | ({"dataset_cache": str(Path(self.folder) / "dataset")} if self.model in MODELS else {})


def _read(files: Run) -> Trial | None:
    record = files.record()
    return None if record is None else Trial.from_json(record)


def _is_over(trainer: Any) -> bool:
    """Whether a trainer that has validated an epoch will train no other: epochs, early stopping, or time budget."""
    budget = trainer.config.time_budget
    return (
        len(trainer.history) >= trainer.epochs
        or trainer.cur_step > trainer.stopping_step
        or (budget is not None and seconds_of(trainer.history) >= budget)
    )


def _read_literal(value: Any) -> Any:
    """What a word stands for that is a literal of Python, as words of RecBole's params files may be; else the word."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (SyntaxError, ValueError):
        return value


def best(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the best score, of equal ones the first; None if none has a score that counts."""
    return next((trial for _, trial in by_score(trials) if trial.counts), None)


def by_score(trials: Iterable[Trial]) -> list[tuple[int, Trial]]:
    """Number, from 1 in the order in which they began, and record of all trials, the best first, the failed last."""

    def place(numbered: tuple[int, Trial]) -> tuple[bool, float]:
        trial = numbered[1]
        if trial.score is None or not trial.counts:
            return True, 0.0
        return False, -trial.score if trial.bigger else trial.score

    return sorted(enumerate(trials, 1), key=place)
