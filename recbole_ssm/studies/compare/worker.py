"""One run of a comparison, in a process of its own: ``python -m recbole_ssm.studies.compare.worker FILE``."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from recbole_ssm.errors import CheckpointNotWritten, InputError
from recbole_ssm.studies.compare.measuring import by_sample, latency, step_latency
from recbole_ssm.studies.progress import to_file
from recbole_ssm.system.atomic_write import atomic_write, write_json
from recbole_ssm.system.locks import folder_lock
from recbole_ssm.system.plain import plain
from recbole_ssm.system.resources import processor
from recbole_ssm.system.terminal import printable
from recbole_ssm.system.version import __version__
from recbole_ssm.training.evaluation import loaded
from recbole_ssm.training.hooks.divergence import TrainingDiverged
from recbole_ssm.training.run import run

OF_RUN = (
    *("epochs", "seconds_per_epoch", "best_epoch", "seconds_to_best", "history"),
    *("parameters", "parameters_without_item_embedding", "peak_memory_gib"),
)
"""What is kept of what :func:`recbole_ssm.training.run.run` gives, beside the metrics."""


def progress_of(file: Path) -> Path:
    """Where a run says how far it is, whose other files are called as ``file``."""
    return file.with_name(file.name.partition(".")[0] + ".progress")


def train_once(asked: dict, trained: Path) -> dict:
    """What :func:`recbole_ssm.training.run.run` gives, in plain values; arguments as in :func:`train_and_measure`."""
    done = json.loads(trained.read_text(encoding="utf-8")) if trained.exists() else {}
    if done.get("asked") != asked or not Path(done["result"]["checkpoint"]).is_file():
        how = {"command_line": asked["keys"], "resume": True, "watch": to_file(progress_of(trained))}
        result = run(asked["model"], asked["dataset"], asked["files"], **how)
        to_file(progress_of(trained))(1.0, "measuring")
        done = {"asked": asked, "result": plain(result)}
        write_json(trained, done)
    return done["result"]


def train_and_measure(asked: dict, trained: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Train a model, or go on with its training, and try the best epoch on the test data.

    Args:
        asked: ``model``, ``dataset``, ``files`` and ``keys`` (arguments ``--key=value``).
        trained: where a training that is done is written down, so that it need not be done again if measuring ends
            before its time.

    Returns:
        What goes into the tables, and :func:`by_sample`.
    """
    result = train_once(asked, trained)
    cache = [key for key in asked["keys"] if key.startswith("--dataset_cache=")]
    with loaded(result["checkpoint"], command_line=cache) as (config, trainer, (train, _, test), _):
        samples = by_sample(trainer, train, test)
        one, many, step = latency(trainer, test, 1), latency(trainer, test, 1024), step_latency(trainer, test)
        settings = {"time_order": config.order_of_histories} | {key: config[key] for key in ("filter_seen", "seed")}
        settings |= {"rule_of_seen": config.rule_of_seen, "repeated_targets": test.share_repeated}
        threads = torch.get_num_threads()
    measured = {
        **settings,
        "test_result": result["test_result"],
        **{key: result[key] for key in OF_RUN},
        "latency_one": one,
        "latency_many": many,
        "latency_step": step,
        "versions": {"recbole-ssm": __version__} | {name: version(name) for name in ("recbole", "torch")},
        "machine": {"processor": processor(), "threads": threads, "device": str(config["device"])},
    }
    return measured, samples


def end_with_parent(parent: int) -> None:
    """Stop when the process of this number is gone, which asked for this run, so that its next start has the files."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(file: str, parent: str) -> int:
    """Do what ``FILE.json`` asks for, and leave ``FILE.npz`` and ``FILE.result.json``, or exit with an error."""
    end_with_parent(int(parent))
    target = Path(file)
    try:
        with folder_lock(target.parent):  # the run of a study that was killed may still end
            return _do(target)
    except (InputError, TrainingDiverged, CheckpointNotWritten) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


def _do(target: Path) -> int:
    asked = json.loads(target.read_text(encoding="utf-8"))
    measured, samples = train_and_measure(asked, target.with_suffix(".trained.json"))
    with atomic_write(target.with_suffix(".npz")) as content:
        np.savez_compressed(content, **{name: np.asarray(values) for name, values in samples.items()})
    write_json(target.with_suffix(".result.json"), {"asked": asked, **measured})
    target.with_suffix(".trained.json").unlink(missing_ok=True)
    progress_of(target).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
