"""The runs of a comparison: the list of them, which are done, and how the others are done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from recbole.utils import ModelType

from recbole_ssm.checkpoints.latest import find_latest
from recbole_ssm.config.command_line import key_of
from recbole_ssm.config.config import Config
from recbole_ssm.config.splits import DECIDE_THE_TEST
from recbole_ssm.data.atomic_files import check_atomic_files
from recbole_ssm.errors import InputError
from recbole_ssm.model.registry import MODELS, model_class
from recbole_ssm.studies.compare.beyond import DEFAULT, check_names
from recbole_ssm.studies.compare.fairness import check_ranked_alike, check_same_test_items
from recbole_ssm.studies.compare.measuring import AT
from recbole_ssm.studies.compare.record import Record, as_record
from recbole_ssm.studies.run_store import RunStore, StudyRun, asked_for, read_json
from recbole_ssm.studies.worker import start
from recbole_ssm.system.atomic_write import write_json
from recbole_ssm.system.progress_bar import bar
from recbole_ssm.system.terminal import Console

_FIXED = {
    "topk": f"[{AT}]",
    "metrics": "['Hit','NDCG','MRR']",
    "valid_metric": f"NDCG@{AT}",
    "show_progress": "False",
}
"""Keys that a comparison sets for all models."""

_ITS_OWN = (*_FIXED, "seed", "checkpoint_dir", "time_budget", "dataset_cache")
"""Keys that a comparison sets for each run."""


@dataclass(frozen=True)
class Variant:
    """One row of a comparison: a model, and the keys that are set for it alone."""

    name: str
    model: str
    keys: tuple[str, ...] = ()


@dataclass
class Study:
    """A comparison, and the folder of its results.

    Args:
        variants: what is compared, by different names.
        dataset: name.
        seeds: of each variant.
        folder: where runs, their logs and the report go; what is done there is not done again.
        files: config files for all variants.
        keys: arguments ``--key=value`` for all variants.
        budget: seconds of training of each run, or None.
        metrics: beyond accuracy; see :mod:`recbole_ssm.studies.compare.beyond`.
    """

    variants: list[Variant]
    dataset: str
    seeds: list[int]
    folder: Path
    files: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    budget: float | None = None
    metrics: list[str] = field(default_factory=lambda: list(DEFAULT))

    def check(self) -> list[str]:
        """Check the configuration of each variant before anything is trained.

        Returns:
            What the user should know of it.

        Raises:
            InputError: something cannot be used, or the folder has runs of other settings.
        """
        self._check_keys()
        check_names(self.metrics)
        configs = {variant.name: self._checked_config(variant) for variant in self.variants}
        check_ranked_alike(configs)
        check_same_test_items(configs)
        self.store.make()
        (self.folder / "runs").mkdir(exist_ok=True)
        self._check_begun(configs)
        keys = set(_ITS_OWN) - ({"time_budget"} if self.budget is None else set())
        notes = {note for config in configs.values() for note in config.overruled(keys, "compare")}
        first, *others = (config.passed_over for config in configs.values())
        idle = first.keys() - set(_ITS_OWN)
        return sorted(notes | {first[key] for key in idle.intersection(*others)})

    def _check_keys(self) -> None:
        """Raise InputError for a key that the comparison sets itself."""
        for name in map(key_of, (*self.keys, *(key for variant in self.variants for key in variant.keys))):
            if name in _ITS_OWN:
                raise InputError(f"compare sets {name} itself; leave --{name} out")

    def _checked_config(self, variant: Variant) -> Config:
        """The configuration of a variant's first run; InputError if it cannot be compared."""
        config = self._config(variant, self.seeds[0])
        for key in map(key_of, variant.keys):
            if key in DECIDE_THE_TEST:
                raise InputError(f"with another {key} the test is another one, and cannot be compared; leave it out")
            if key in config.passed_over:
                raise InputError(f"the variants do not differ: {config.passed_over[key]}")
        if not config.held_out[1]:
            split = config.eval_args["split"]
            raise InputError(f"a comparison is of test results, for which eval_args: split {split!r} leaves no data")
        check_atomic_files(config)
        return config

    def _check_begun(self, configs: dict[str, Config]) -> None:
        """Raise InputError if the folder has a run of other settings or other data."""
        now = {name: asked_for(config) for name, config in configs.items()}
        for variant, seed in self.runs():
            begun = self._begun(variant, seed)
            if begun is not None:
                now[variant.name]["settings"]["seed"] = seed
                self.store.check_same(begun, now[variant.name], f"a run of {variant.name}")

    @property
    def store(self) -> RunStore:
        """Where the runs are kept."""
        return RunStore(self.folder)

    def run(self, name: str, seed: int) -> StudyRun:
        """The files of a run, by the name of its variant."""
        return self.store.run(f"{name}-{seed}")

    def runs(self) -> Iterator[tuple[Variant, int]]:
        """Variant and seed of each run, all variants with the first seed first."""
        return ((variant, seed) for seed in self.seeds for variant in self.variants)

    def result(self, name: str, seed: int) -> Record | None:
        """What a run gave, or None if it is not done."""
        found = self.run(name, seed).record()
        return None if found is None else as_record(found)

    def samples(self, name: str, seed: int) -> dict[str, np.ndarray]:
        """:func:`recbole_ssm.studies.compare.measuring.by_sample` of a run that is done."""
        with np.load(self.run(name, seed).samples_file, allow_pickle=False) as kept:
            return dict(kept)

    def train(self, console: Console) -> list[str]:
        """Do the runs that are not done, each in a process of its own.

        Args:
            console: is told of each run that begins or ends, and if it is a terminal, how far it is.

        Returns:
            A line for each run that failed. The others are done all the same.
        """
        failed = []
        everything = list(self.runs())
        with self.store.claimed():
            for number, (variant, seed) in enumerate(everything, 1):
                name = f"[{number}/{len(everything)}] {variant.name}, seed {seed}"
                if self.result(variant.name, seed) is not None:
                    console.tell(f"{name}: done before")
                    continue
                console.tell(f"{name}: training")
                error = self._train(variant, seed, console)
                done = self.result(variant.name, seed)
                if error is not None or done is None:
                    failed.append(f"{variant.name}, seed {seed}: {error} (see {self.run(variant.name, seed).log})")
                    console.tell(f"{name}: failed, {error}")
                    continue
                score = done["test_result"][f"ndcg@{AT}"]
                console.tell(
                    f"{name}: test NDCG@{AT} {score:.4f} after {done['epochs']} epoch{'s' * (done['epochs'] != 1)}"
                )
        return failed

    def _train(self, variant: Variant, seed: int, console: Console) -> str | None:
        """Do one run in a process of its own; returns its error, or None."""
        run = self.run(variant.name, seed)
        write_json(run.order_file, self._asked(variant, seed) | asked_for(self._config(variant, seed)))
        run.progress.unlink(missing_ok=True)  # of a run that was killed
        with bar(console, run.share_done):
            words = ["-m", "recbole_ssm.studies.compare.worker", str(run.order_file)]
            error = start(words, log=run.log)
        if error is None and run.record() is None:
            return "its process ended without a result"
        return error

    def _begun(self, variant: Variant, seed: int) -> dict | None:
        """What a run was asked for that is done or has been begun; None if it has not been begun."""
        run = self.run(variant.name, seed)
        done = run.record()
        if done is not None:
            return done["asked"]
        kept = self._checkpoints(variant.name, seed)
        trained = run.trained_file.exists() or find_latest(kept, variant.model, self.dataset)
        return read_json(run.order_file) if trained else None

    def _config(self, variant: Variant, seed: int) -> Config:
        asked = self._asked(variant, seed)
        return Config(variant.model, self.dataset, asked["files"], command_line=asked["keys"])

    def _checkpoints(self, name: str, seed: int) -> Path:
        return self.folder.absolute() / "checkpoints" / self.run(name, seed).name

    def _asked(self, variant: Variant, seed: int) -> dict:
        model = variant.model
        fixed = {
            **_FIXED,
            "seed": seed,
            "checkpoint_dir": str(self._checkpoints(variant.name, seed)),
        }
        if model in MODELS:
            fixed["dataset_cache"] = str(self.folder.absolute() / "dataset")
        if self.budget is not None:
            fixed["time_budget"] = self.budget
        keys = [*self.keys, *variant.keys, *(f"--{key}={value}" for key, value in fixed.items())]
        of_model: Any = model_class(model)
        same_split = [] if of_model.type == ModelType.SEQUENTIAL else ["protocol/leave_one_out"]
        files = same_split + self.files
        return {"model": model, "dataset": self.dataset, "files": files, "keys": keys, "beyond": self.metrics}
