"""The trials of a search: each is trained once, and kept in a folder of its own with all that it gave."""

from __future__ import annotations

import ast
import json
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from recbole_ssm.config.config import Config
from recbole_ssm.model.registry import MODELS
from recbole_ssm.studies.progress import from_file, to_file
from recbole_ssm.system.atomic_write import write_json
from recbole_ssm.training.hooks.stopping import Interrupted
from recbole_ssm.training.run import run

DONE = ("finished", "stopped")

SET_BY_TUNE = {"checkpoint_dir", "dataset_cache", "show_progress"}
"""Configuration keys that each trial gets from the search."""


@dataclass(frozen=True)
class Task:
    """What is tuned, in plain values, which any process can be sent.

    Args:
        model, dataset: names.
        folder: where trials are kept.
        files: config files for all trials.
        keys: arguments ``--key=value`` for all trials.
    """

    model: str
    dataset: str
    folder: str
    files: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def place(self, params: dict) -> Path:
        """The folder of the trial with these values."""
        text = json.dumps(params, sort_keys=True)
        return Path(self.folder) / "trials" / blake2b(text.encode(), digest_size=6).hexdigest()

    def checkpoint(self, record: dict) -> Path:
        """The weights of a trial's best epoch."""
        return self.place(record["params"]) / "checkpoints" / record["checkpoint"]

    def config(self, params: dict) -> Config:
        """The configuration of the trial with these values."""
        return Config(**self._given(params))

    def train(self, params: dict, report: Callable[[int, float], None]) -> dict:
        """Do a trial, go on with one that was interrupted, or repeat what one that is done has reported.

        What RecBole logs goes to ``train.log`` in the trial's folder.

        Args:
            params: its values.
            report: is told after each epoch that was validated its number, from 1, and the best score until then.

        Returns:
            Its record, see :meth:`record`.

        Raises:
            Interrupted: the same call goes on with it.
            Exception: whatever went wrong; the record says so too.
        """
        record = self.record(params)
        if record is not None and record["ended"] in DONE:
            _report(record, 0, report)
            return record
        if record is None or record["ended"] == "failed":
            record = {"params": params, "began": time.time(), "ended": None, "error": None, "best_scores": []}
            self._write(record)
        told = 0

        def after_epoch(trainer) -> None:
            nonlocal told
            self._take_down(record, trainer.history, trainer.saved_model_file, trainer.config)
            if len(trainer.history) >= trainer.epochs or trainer.cur_step > trainer.stopping_step:
                record["ended"] = "finished"  # before it is told: the search may end its process as it hears of it
            self._write(record)
            told = _report(record, told, report)

        with (self.place(params) / "train.log").open("a", encoding="utf-8") as log:
            try:
                with redirect_stdout(log), redirect_stderr(log):
                    given = self._given(params)
                    far = {"watch": to_file(self.place(params) / "progress")}
                    result = run(**given, resume=True, after_epoch=after_epoch, test=False, **far)
                # Once more: a trial that was interrupted behind its last epoch has none left to tell of.
                self._take_down(record, result["history"], result["checkpoint"], self.config(params))
                _report(record, told, report)
            except Interrupted as stop:
                raise Interrupted(stop.signal_number, self.folder, again="the same command") from stop
            except Exception as error:
                self._write(record | {"ended": "failed", "error": f"{type(error).__name__}: {error}"})
                raise
        record["ended"] = "finished"
        self._write(record)
        return record

    def record(self, params: dict) -> dict | None:
        """What is known of a trial, or None if it was not begun.

        ``params``; ``began`` (seconds since 1970); ``ended``: ``finished``, ``stopped`` by the search, ``failed``
        with an ``error``, or None while it goes on; and once an epoch is done ``history`` (see
        :class:`recbole_ssm.training.trainer.HookedTrainer`), ``best_scores`` (until each epoch, None where it was not
        validated), ``score`` (the best), ``bigger`` (whether more is better) and ``checkpoint`` (its name).
        """
        return _read(self.place(params))

    def records(self) -> list[dict]:
        """Of all trials, in the order in which they began."""
        found = [_read(folder) for folder in (Path(self.folder) / "trials").glob("*")]
        return sorted((record for record in found if record is not None), key=lambda record: record["began"])

    def progress(self, trials: int) -> tuple[float, str]:
        """What share of so many trials is done, at least, and that in words."""
        records = self.records()
        ended = sum(record["ended"] is not None for record in records)
        going = (from_file(self.place(each["params"]) / "progress")[0] for each in records if each["ended"] is None)
        return min((ended + sum(going)) / trials, 1.0), f"{min(ended, trials)}/{trials} trials"

    def end(self, params: dict, error: str | None = None) -> dict:
        """Take down that the search is done with a trial, and keep the weights of the best that has ended only.

        Returns:
            Its record.
        """
        record = self.record(params) or {"params": params, "began": time.time(), "best_scores": [], "ended": None}
        if record["ended"] is None:
            record |= {"ended": "failed" if error else "stopped", "error": error}
            self._write(record)
        ended = [other for other in self.records() if other["ended"]]
        winner = best(ended)
        for other in ended:
            kept = self.place(other["params"]) / "checkpoints"
            if winner is None or other["params"] != winner["params"]:
                shutil.rmtree(kept, ignore_errors=True)
            for file in kept.glob("*.latest.pth"):  # of a process that the search has ended
                file.unlink(missing_ok=True)
        return record

    def _given(self, params: dict) -> dict:
        """What :func:`recbole_ssm.training.run.run` is given for these values."""
        own = {"checkpoint_dir": str(self.place(params) / "checkpoints"), "show_progress": False}
        if self.model in MODELS:
            own["dataset_cache"] = str(Path(self.folder) / "dataset")
        return {
            "model": self.model,
            "dataset": self.dataset,
            "config_file_list": [*self.files, {name: _read_literal(value) for name, value in params.items()}],
            "config_dict": own,
            "command_line": self.keys,
        }

    @staticmethod
    def _take_down(record: dict, history: list[dict], checkpoint: str, config) -> None:
        """What the epochs so far came to."""
        better = max if config["valid_metric_bigger"] else min
        best, scores = None, []
        for epoch in history:
            score = epoch.get("valid_result", {}).get(config["valid_metric"].lower())
            if score is not None:
                best = score if best is None else better(best, score)
            scores.append(None if score is None else best)
        record |= {"history": history, "best_scores": scores, "score": best, "checkpoint": Path(checkpoint).name}
        record["bigger"] = bool(config["valid_metric_bigger"])

    def _write(self, record: dict) -> None:
        folder = self.place(record["params"])
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "trial.json", record)


def _read_literal(value):
    """What a word stands for that is a literal of Python, as words of RecBole's params files may be; else the word."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (SyntaxError, ValueError):
        return value


def best(records: list[dict]) -> dict | None:
    """The record with the best score, of equal ones the first; None if none has a score that counts."""
    ranked = [record for _, record in by_score(records) if counts(record)]
    return ranked[0] if ranked else None


def counts(record: dict) -> bool:
    """Whether a trial has a score, and has not failed after that."""
    return record.get("score") is not None and record["ended"] != "failed"


def by_score(records: list[dict]) -> list[tuple[int, dict]]:
    """Number, from 1 in the order in which they began, and record of all trials, the best first, the failed last."""

    def place(numbered: tuple[int, dict]) -> tuple:
        record = numbered[1]
        if not counts(record):
            return True, 0.0
        return False, -record["score"] if record["bigger"] else record["score"]

    return sorted(enumerate(records, 1), key=place)


def _report(record: dict, told: int, report: Callable[[int, float], None]) -> int:
    """Tell of the epochs after the first ``told``; returns how many there are."""
    for epoch, score in enumerate(record["best_scores"][told:], told + 1):
        if score is not None:
            report(epoch, score)
    return len(record["best_scores"])


def _read(folder: Path) -> dict | None:
    file = folder / "trial.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
