"""Small datasets in RecBole's atomic format, and what follows from their raw lines without any of RecBole's code."""

from __future__ import annotations

import logging
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import recbole

from recbole_ssm.config.config import Config
from recbole_ssm.data import create_dataset, data_preparation
from recbole_ssm.model.registry import MODELS, model_class
from recbole_ssm.training.assembly import assemble

ROOT = Path(__file__).parent.parent
ML_100K = Path(recbole.__file__).parent / "dataset_example" / "ml-100k" / "ml-100k.inter"
REAL_DATA = os.environ.get("RECBOLE_SSM_DATA_PATH")
"""Folder of the real datasets that are too large to come with anything, or None."""

BARE = f"""
import sys, types
package = sys.modules["recbole_ssm"] = types.ModuleType("recbole_ssm")
package.__path__ = [{str(ROOT / "recbole_ssm")!r}]
"""
"""Begins a program that uses a module of this package without the seconds of all that the package imports."""

SMALL = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 1, "defaults": "paper"}
"""A model of this package that trains in no time, with settings that do not depend on the data."""

WITHOUT_TEXTS = [name for name in MODELS if all(key.name != "item_text" for key in model_class(name).keys)]
"""The models of this package that read no texts: they need no .item file, and no transformers."""

SMALL_OF_RECBOLE = {
    "SASRec": {"hidden_size": 8, "inner_size": 16, "n_layers": 1},
    "GRU4Rec": {"hidden_size": 8, "embedding_size": 8, "num_layers": 1},
}

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"}


def interactions(
    n_users: int = 30, n_items: int = 40, shortest: int = 4, longest: int = 20, seed: int = 0, step: int = 3600
):
    """Random interactions, in random order of lines; times are distinct multiples of ``step`` seconds.

    Returns:
        Columns user_id, item_id (words) and timestamp (float64).
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(shortest, longest + 1, n_users)
    users = np.repeat([f"u{number}" for number in range(n_users)], lengths)
    items = np.array([f"i{number}" for number in rng.integers(0, n_items, len(users))])
    times = 978_300_000.0 + step * rng.permutation(len(users))
    return pd.DataFrame({"user_id": users, "item_id": items, "timestamp": times})


def write_dataset(folder: Path, frame: pd.DataFrame, name: str = "tiny", header: str | None = None) -> Path:
    """Write ``folder/name/name.inter``; numbers are declared float and words token, unless ``header`` is given."""
    file = folder / name / f"{name}.inter"
    file.parent.mkdir(parents=True, exist_ok=True)
    if header is None:
        kinds = ["float" if pd.api.types.is_numeric_dtype(kind) else "token" for kind in frame.dtypes]
        header = "\t".join(f"{column}:{kind}" for column, kind in zip(frame.columns, kinds, strict=True))
    lines = ("\t".join(str(value) for value in row) for row in frame.itertuples(index=False))
    file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return file


def read_interactions(file: Path) -> pd.DataFrame:
    """The lines of a file: names without types, users and items as words, numbers in float64."""
    frame = pd.read_csv(file, sep="\t", dtype=str)
    kinds = dict(column.split(":") for column in frame.columns)
    frame.columns = list(kinds)
    return frame.astype({column: "float64" for column, kind in kinds.items() if kind == "float"})


def histories(frame: pd.DataFrame, kind: type = np.float64) -> dict[str, list[str]]:
    """Items of each user in order of time, ties in order of lines, with timestamps rounded to ``kind``."""
    times = frame["timestamp"].to_numpy().astype(kind)
    users, items = list(frame["user_id"]), list(frame["item_id"])
    found: dict[str, list[str]] = {}
    for line in np.argsort(times, kind="stable").tolist():
        found.setdefault(users[line], []).append(items[line])
    return found


def small(model: str) -> dict:
    """Settings with which a model trains in no time."""
    return SMALL if model in MODELS else SMALL_OF_RECBOLE.get(model, {})


def make_config(folder: Path, model: str = "2Mamba4Rec", dataset: str = "tiny", **keys) -> Config:
    """A configuration for the datasets in ``folder`` on the CPU."""
    fixed = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "epochs": 1}
    return Config(model, dataset, config_dict={**fixed, **small(model), **keys})


def make_splits(config: Config):
    """The unsplit dataset of a configuration, and its training, validation and test samples."""
    dataset = create_dataset(config, packed=config.is_packed)
    return dataset, dataset.build()


def make_loaders(config: Config):
    """The dataset of a configuration, and its loaders."""
    dataset = create_dataset(config, packed=config.is_packed)
    return dataset, data_preparation(config, dataset)


def make_trainer(config):
    """A trainer of a new model, and the loaders of training, validation and test data."""
    _, dataset, loaders, trainer = assemble(config)
    return dataset, trainer, loaders


def run_here(program: str, *arguments: str, capfd, monkeypatch) -> subprocess.CompletedProcess:
    """Run a script as ``__main__`` in this process, with the logging of a new one: pytest's handlers are put aside."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr("sys.argv", [program, *arguments])
    capfd.readouterr()
    status: int | str | None = 0
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        status = end.code
    out, errors = capfd.readouterr()
    if isinstance(status, str):  # as Python does it
        status, errors = 1, f"{errors}{status}\n"
    return subprocess.CompletedProcess([program, *arguments], status or 0, out, errors)


def run_python(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """Run Python in ``folder``, in a process of its own that finds this checkout."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
