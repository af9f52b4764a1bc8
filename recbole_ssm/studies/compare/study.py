"""The runs of a comparison: which there are, which are done, and those that are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from recbole.utils import ModelType

from recbole_ssm.checkpoints.latest import find_latest
from recbole_ssm.config.command_line import key_of
from recbole_ssm.config.config import Config
from recbole_ssm.data.atomic_files import check_atomic_files
from recbole_ssm.errors import InputError
from recbole_ssm.model.registry import MODELS, model_class
from recbole_ssm.studies.compare.fairness import check_ranked_alike, check_same_test_items
from recbole_ssm.studies.compare.measuring import AT
from recbole_ssm.studies.progress import bar, from_file
from recbole_ssm.studies.run_store import asked_for, check_same
from recbole_ssm.system.atomic_write import check_writable, write_json
from recbole_ssm.system.locks import folder_lock
from recbole_ssm.system.terminal import Console

_FIXED = {
    "topk": f"[{AT}]",
    "metrics": "['Hit','NDCG','MRR']",
    "valid_metric": f"NDCG@{AT}",
    "show_progress": "False",
}
"""Keys that a comparison sets for all models."""

_ITS_OWN = (*_FIXED, "seed", "checkpoint_dir", "time_budget", "dataset_cache")
"""Keys that it sets, for each run."""

_OF_TEST_ITEMS = (
    *("time_order", "data_path", "eval_args", "benchmark_filename", "rm_dup_inter", "val_interval"),
    *("user_inter_num_interval", "item_inter_num_interval", "filter_inter_by_user_or_item"),
    *("USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"),
)
"""Keys that decide what is tested, and so cannot be what variants differ in."""


@dataclass(frozen=True)
class Variant:
    """One of the things that are compared: a model, and what is set for it alone."""

    name: str
    model: str
    keys: tuple[str, ...] = ()


@dataclass
class Study:
    """What is compared, and where it is kept.

    Args:
        variants: what is compared, by different names.
        dataset: name.
        seeds: of each variant.
        folder: where runs, their logs and the report go; what is done there is not done again.
        files: config files for all variants.
        keys: arguments ``--key=value`` for all variants.
        budget: seconds of training of each run, or None.
    """

    variants: list[Variant]
    dataset: str
    seeds: list[int]
    folder: Path
    files: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    budget: float | None = None

    def check(self) -> list[str]:
        """Make each variant's configuration, so that what is wrong is said before anything is trained.

        Returns:
            What the user should know of it.

        Raises:
            InputError: something cannot be used, or the folder has runs of other settings.
        """
        for name in map(key_of, (*self.keys, *(key for variant in self.variants for key in variant.keys))):
            if name in _ITS_OWN:
                raise InputError(f"compare sets {name} itself; leave --{name} out")
        configs: dict[str, Config] = {}
        for variant in self.variants:
            config = self._config(variant, self.seeds[0])
            for key in map(key_of, variant.keys):
                if key in _OF_TEST_ITEMS:
                    raise InputError(f"with another {key} other items are tested, and cannot be compared; leave it out")
                if key in config.passed_over:
                    raise InputError(f"a comparison to no purpose: {config.passed_over[key]}")
            if not config.held_out[1]:
                split = config["eval_args"]["split"]
                raise InputError(
                    f"a comparison is of test results, for which eval_args: split {split!r} leaves no data"
                )
            check_atomic_files(config)
            configs[variant.name] = config
        check_ranked_alike(configs)
        check_same_test_items(configs)
        check_writable(self.folder, f"--out={self.folder}")
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        now = {name: asked_for(config) for name, config in configs.items()}
        for variant, seed in self.runs():
            begun = self._begun(variant, seed)
            if begun is not None:
                now[variant.name]["settings"]["seed"] = seed
                check_same(begun, now[variant.name], self.folder, f"a run of {variant.name}")

        keys = set(_ITS_OWN) - ({"time_budget"} if self.budget is None else set())
        return sorted({note for config in configs.values() for note in config.overruled(keys, "compare")})

    def runs(self) -> Iterator[tuple[Variant, int]]:
        """Variant and seed of each run, all variants with the first seed first."""
        return ((variant, seed) for seed in self.seeds for variant in self.variants)

    def result(self, name: str, seed: int) -> dict | None:
        """What a run gave, or None if it is not done."""
        file = self._file(name, seed).with_suffix(".result.json")
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def samples(self, name: str, seed: int) -> dict[str, np.ndarray]:
        """:func:`recbole_ssm.studies.compare.measuring.by_sample` of a run that is done."""
        with np.load(self._file(name, seed).with_suffix(".npz"), allow_pickle=False) as kept:
            return dict(kept)

    def train(self, console: Console) -> list[str]:
        """Do the runs that are not done, each in a process of its own.

        Args:
            console: is told of each run that begins or ends, and if it is a terminal, how far it is.

        Returns:
            A line for each run that failed. The others are done all the same.
        """
        with folder_lock(self.folder):
            return self._train(console)

    def _train(self, console: Console) -> list[str]:
        failed = []
        everything = list(self.runs())
        for number, (variant, seed) in enumerate(everything, 1):
            name = f"[{number}/{len(everything)}] {variant.name}, seed {seed}"
            if self.result(variant.name, seed) is not None:
                console.tell(f"{name}: done before")
                continue
            console.tell(f"{name}: training")
            file = self._file(variant.name, seed).with_suffix(".json")
            write_json(file, self._asked(variant, seed) | asked_for(self._config(variant, seed)))
            log = file.with_suffix(".log")
            far = file.with_suffix(".progress")
            far.unlink(missing_ok=True)  # of a run that was killed
            with log.open("a", encoding="utf-8") as output, bar(console, partial(from_file, far)):
                command = [sys.executable, "-W", "ignore", "-m", "recbole_ssm.studies.compare.worker"]
                command += [str(file), str(os.getpid())]
                status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
            done = self.result(variant.name, seed)
            if status or done is None:
                said = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
                failed.append(
                    f"{variant.name}, seed {seed}: {said[-1] if said else f'exit status {status}'} (see {log})"
                )
                console.tell(f"{name}: failed, {said[-1] if said else status}")
                continue
            score = done["test_result"][f"ndcg@{AT}"]
            console.tell(f"{name}: test NDCG@{AT} {score:.4f} after {done['epochs']} epochs")
        return failed

    def _file(self, name: str, seed: int) -> Path:
        """Without its suffix, of which ``with_suffix`` must not take a point of the name for one."""
        return self.folder / "runs" / f"{name}-{seed}".replace(".", "_").replace("/", "_")

    def _begun(self, variant: Variant, seed: int) -> dict | None:
        """What was asked of a run that is done, or that has been trained for a while; None if there is none."""
        done = self.result(variant.name, seed)
        if done is not None:
            return done["asked"]
        file, kept = self._file(variant.name, seed), self._checkpoints(variant.name, seed)
        trained = file.with_suffix(".trained.json").exists() or find_latest(kept, variant.model, self.dataset)
        asked = file.with_suffix(".json")
        return json.loads(asked.read_text(encoding="utf-8")) if trained and asked.exists() else None

    def _config(self, variant: Variant, seed: int) -> Config:
        asked = self._asked(variant, seed)
        return Config(variant.model, self.dataset, asked["files"], command_line=asked["keys"])

    def _checkpoints(self, name: str, seed: int) -> Path:
        return self.folder.absolute() / "checkpoints" / self._file(name, seed).name

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
        same_split = [] if model_class(model).type == ModelType.SEQUENTIAL else ["protocol/leave_one_out"]
        return {"model": model, "dataset": self.dataset, "files": same_split + self.files, "keys": keys}
