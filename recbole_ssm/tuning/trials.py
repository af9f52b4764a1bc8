"""The trials of a search: each is trained once, and kept in a folder of its own with all that it gave."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from recbole_ssm.config import Config
from recbole_ssm.quick_start import run
from recbole_ssm.registry import MODELS
from recbole_ssm.resume import Interrupted


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

    def given(self, params: dict) -> dict:
        """What :class:`recbole_ssm.config.Config` is given for these values, and ``run`` likewise."""
        own = {"checkpoint_dir": str(self.place(params) / "checkpoints"), "show_progress": False}
        if self.model in MODELS:
            own["dataset_cache"] = str(Path(self.folder) / "dataset")
        return {
            "model": self.model,
            "dataset": self.dataset,
            "config_file_list": list(self.files),
            "config_dict": {**params, **own},
            "command_line": self.keys,
        }

    def config(self, params: dict) -> Config:
        """The configuration of the trial with these values."""
        return Config(**self.given(params))

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
        told = 0
        if record is not None and record["ended"] in ("finished", "stopped"):
            for epoch, score in enumerate(record["best_scores"], 1):
                if score is not None:
                    report(epoch, score)
            return record
        record = {"params": params, "began": time.time(), "ended": None, "error": None, "best_scores": []}

        def after_epoch(trainer) -> None:
            nonlocal told
            metric = trainer.config["valid_metric"].lower()
            better = max if trainer.valid_metric_bigger else min
            best, scores = None, []
            for epoch in trainer.history:
                score = epoch.get("valid_result", {}).get(metric)
                if score is not None:
                    best = score if best is None else better(best, score)
                scores.append(best if score is not None else None)
            record.update(
                history=trainer.history,
                best_scores=scores,
                score=best,
                bigger=bool(trainer.valid_metric_bigger),
                checkpoint=str(trainer.saved_model_file),
            )
            self._write(record)
            for epoch in range(told, len(scores)):
                if scores[epoch] is not None:
                    report(epoch + 1, scores[epoch])
            told = len(scores)

        self.place(params).mkdir(parents=True, exist_ok=True)
        with (self.place(params) / "train.log").open("a", encoding="utf-8") as log:
            try:
                with redirect_stdout(log), redirect_stderr(log):
                    run(**self.given(params), resume=True, after_epoch=after_epoch, test=False)
            except Interrupted:
                raise
            except Exception as error:
                self._write(record | {"ended": "failed", "error": f"{type(error).__name__}: {error}"})
                raise
        self._write(record := record | {"ended": "finished"})
        return record

    def record(self, params: dict) -> dict | None:
        """What is known of a trial, or None if it was not begun.

        ``params``; ``began`` (seconds since 1970); ``ended``: ``finished``, ``stopped`` by the search, ``failed``
        with an ``error``, or None while it goes on; and once an epoch is done ``history`` (see
        :class:`recbole_ssm.trainer.History`), ``best_scores`` (until each epoch, None where it was not validated),
        ``score`` (the best), ``bigger`` (whether more is better) and ``checkpoint``.
        """
        return _read(self.place(params))

    def records(self) -> list[dict]:
        """Of all trials, in the order in which they began."""
        found = [_read(folder) for folder in (Path(self.folder) / "trials").glob("*")]
        return sorted((record for record in found if record is not None), key=lambda record: record["began"])

    def end(self, params: dict, error: str | None = None) -> dict:
        """Take down that the search is done with a trial, and keep the weights of the best of all only.

        Returns:
            Its record.
        """
        record = self.record(params) or {"params": params, "began": time.time(), "best_scores": [], "ended": None}
        if record["ended"] is None:
            record |= {"ended": "failed" if error else "stopped", "error": error}
            self._write(record)
        winner = best(self.records())
        for other in self.records():
            if other["ended"] and (winner is None or other["params"] != winner["params"]):
                shutil.rmtree(self.place(other["params"]) / "checkpoints", ignore_errors=True)
        return record

    def _write(self, record: dict) -> None:
        file = self.place(record["params"]) / "trial.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        unfinished.write_text(json.dumps(record, indent=1), encoding="utf-8")
        unfinished.replace(file)


def best(records: list[dict]) -> dict | None:
    """The record with the best score, of equal ones the first; None if none has a score."""
    scored = [record for record in records if record.get("score") is not None and record["ended"] != "failed"]
    return by_score(scored)[0][1] if scored else None


def by_score(records: list[dict]) -> list[tuple[int, dict]]:
    """Number, from 1 in the order in which they began, and record of all trials, the best first."""

    def place(numbered: tuple[int, dict]) -> tuple:
        score = numbered[1].get("score")
        return (score is None, 0.0 if score is None else -score if numbered[1]["bigger"] else score)

    return sorted(enumerate(records, 1), key=place)


def _read(folder: Path) -> dict | None:
    file = folder / "trial.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
