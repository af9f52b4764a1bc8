"""The folder of a study: who is at work in it, what its runs were asked for, and what each run gave.

``compare``, ``sweep``, ``tune`` and ``scaling`` keep their results in such a folder. A run that is done is not done
again, and a run of other settings or other data is not mixed with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recbole_ssm.checkpoints.latest import differences
from recbole_ssm.config.config import Config
from recbole_ssm.data.atomic_files import files_hash
from recbole_ssm.errors import InputError
from recbole_ssm.studies.progress import from_file, to_file
from recbole_ssm.system.atomic_write import check_writable, write_json
from recbole_ssm.system.distributed import world_size
from recbole_ssm.system.locks import folder_lock
from recbole_ssm.system.plain import plain


def asked_for(config: Config, leave_out: Iterable[str] = ()) -> dict[str, Any]:
    """What identifies a run: ``settings`` (all keys but those left out) and ``data`` (a hash of its files), as JSON."""
    left_out = set(leave_out)
    settings = {key: value for key, value in plain(config.final_config_dict).items() if key not in left_out}
    return json.loads(json.dumps({"settings": settings, "data": files_hash(config)}))


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Compare two results of :func:`asked_for`; a search adds the ``space`` that it searches.

    Args:
        before: of what is there.
        now: of what is asked for now.

    Returns:
        Words that follow "it has runs", or None if both ask for the same.
    """
    if "data" not in before or "model" not in before.get("settings", {}):
        return "of an earlier version of this package"
    if before.get("space", now.get("space")) != now.get("space"):
        return "with another space"
    if before["data"] != now["data"]:
        return "on other data of this name"
    other = list(differences(before["settings"], now["settings"]).values())
    return f"with other settings, {', '.join(other[:5])}" if other else None


@dataclass(frozen=True)
class Run:
    """The files of one run.

    Args:
        record_file: what the run gave; a file in JSON.
        log: what it printed.
        progress: how far it is while it goes on.
    """

    record_file: Path
    log: Path
    progress: Path

    def record(self) -> dict[str, Any] | None:
        """What is kept of the run, or None if nothing is."""
        return read_json(self.record_file)

    def keep(self, record: Mapping[str, Any]) -> None:
        """Replace the record, in an atomic write."""
        self.record_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.record_file, record)

    def share_done(self) -> tuple[float, str]:
        """The share of the run that is done, and that in words."""
        return from_file(self.progress)

    def watch(self) -> Callable[[float, str], None]:
        """A function for the trainer to call with its progress."""
        return to_file(self.progress)


@dataclass(frozen=True)
class RunStore:
    """The folder of a study.

    Args:
        folder: need not exist; :meth:`make` makes it.
    """

    folder: Path

    def check_writable(self) -> None:
        """Raise InputError if the folder cannot be made or written to. It is not made here."""
        check_writable(self.folder, f"--out={self.folder}")

    def make(self) -> None:
        """Make the folder; InputError as :meth:`check_writable`, or where torchrun has started several processes."""
        if world_size() > 1:
            raise InputError(
                "compare, sweep, tune and scaling start processes of their own; start them without torchrun"
            )
        self.check_writable()
        self.folder.mkdir(parents=True, exist_ok=True)

    def claimed(self) -> AbstractContextManager[None]:
        """Lock the folder; see :func:`recbole_ssm.system.locks.folder_lock`."""
        return folder_lock(self.folder)

    def check_same(self, before: Mapping[str, Any], now: Mapping[str, Any], what: str) -> None:
        """Check that what the folder has was asked for with the settings and the data of now.

        Args:
            before: :func:`asked_for` of what the folder has.
            now: :func:`asked_for` of what is to be added.
            what: names what the folder has in the error message.

        Raises:
            InputError: they differ.
        """
        reason = difference(before, now)
        if reason is not None:
            raise InputError(f"{self.folder} has {what} {reason}; name another folder with --out")

    def check_search(self, asked: Mapping[str, Any]) -> None:
        """Keep what a search was asked for in ``search.json``; a file that is there must ask for the same.

        Args:
            asked: :func:`asked_for` of the search, and its ``space``.

        Raises:
            InputError: the folder is of another search, or cannot be used.
        """
        file = self.folder / "search.json"
        try:
            self.make()
            if not file.exists():
                write_json(file, asked)
            before = read_json(file) or {}
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"--out={self.folder} cannot be used ({error}); name another folder") from error
        self.check_same(before, asked, "trials")

    def run(self, name: str) -> StudyRun:
        """The run of this name in ``runs/``. Points and slashes become underscores in the names of its files."""
        stem = self.folder / "runs" / name.replace(".", "_").replace("/", "_")
        return StudyRun.of(stem)

    def trial(self, name: str) -> Run:
        """The trial of this name, which has a folder of its own in ``trials/``."""
        return _trial(self.folder / "trials" / name)

    def trials(self) -> list[Run]:
        """All trials that have a folder, in no particular order."""
        return [_trial(folder) for folder in (self.folder / "trials").glob("*")]


@dataclass(frozen=True)
class StudyRun(Run):
    """A run in a process of its own: beside its record the order for it, and one number for each test sample.

    Args:
        order_file: what the run is asked for; the process reads it.
        samples_file: metrics of each test sample.
        trained_file: what the training gave, until all is measured.
    """

    order_file: Path
    samples_file: Path
    trained_file: Path

    @classmethod
    def of(cls, stem: Path) -> StudyRun:
        """The run whose files are called ``stem``, without a suffix."""
        suffixes = (".result.json", ".log", ".progress", ".json", ".npz", ".trained.json")
        return cls(*(stem.with_name(stem.name + suffix) for suffix in suffixes))

    @property
    def name(self) -> str:
        """What all its files are called before the suffix."""
        return self.order_file.stem


def _trial(folder: Path) -> Run:
    return Run(folder / "trial.json", folder / "train.log", folder / "progress")


def read_json(file: Path) -> dict[str, Any] | None:
    """The content of a file in JSON, or None if there is no such file."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
