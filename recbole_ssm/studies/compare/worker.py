"""One run of a comparison, in a process of its own: ``python -m recbole_ssm.studies.compare.worker FILE``."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from recbole_ssm.errors import CheckpointNotWritten, InputError
from recbole_ssm.studies.compare.beyond import to_evaluate
from recbole_ssm.studies.compare.measuring import METRICS, beyond_accuracy, by_sample, latency, step_latency
from recbole_ssm.studies.run_store import StudyRun
from recbole_ssm.studies.worker import OF_RUN, end_with_parent, train_once
from recbole_ssm.system.atomic_write import atomic_write
from recbole_ssm.system.locks import folder_lock
from recbole_ssm.system.resources import processor
from recbole_ssm.system.terminal import printable
from recbole_ssm.system.version import __version__
from recbole_ssm.training.evaluation import loaded
from recbole_ssm.training.hooks.divergence import TrainingDiverged
from recbole_ssm.training.hooks.progress import EvaluationProgress


def train_and_measure(asked: dict, files: StudyRun) -> tuple[dict, dict[str, np.ndarray]]:
    """Train a model, or go on with its training, and measure the best epoch on the test data.

    Args:
        asked: see :func:`recbole_ssm.studies.worker.train_once`.
        files: of the run. What the training gave is kept, so that it need not be repeated if measuring fails.

    Returns:
        What goes into the tables, and :func:`by_sample`.
    """
    result = train_once(asked, files.trained_file, files.watch())
    files.watch()(1.0, "measuring")
    names = asked.get("beyond", [])
    keys = [key for key in asked["keys"] if key.startswith("--dataset_cache=")]
    keys.append(f"--metrics={[*map(str.capitalize, METRICS), *to_evaluate(names)]}")
    with loaded(result["checkpoint"], command_line=keys) as (config, _, (train, _, test), trainer):
        trainer.hooks = (*trainer.hooks, EvaluationProgress(lambda _, words: files.watch()(1.0, words), "measuring"))
        samples = by_sample(trainer, train, test)
        ranks_all = config.eval_args["mode"]["test"] == "full"
        beyond = beyond_accuracy(trainer, names) if ranks_all else {}
        one, many, step = latency(trainer, test, 1), latency(trainer, test, 1024), step_latency(trainer, test)
        settings = {"time_order": config.order_of_histories} | {key: config[key] for key in ("filter_seen", "seed")}
        settings |= {"split": config.split_in_words, "rule_of_seen": config.rule_of_seen}
        settings |= {"repeated_targets": test.share_repeated}
        threads = torch.get_num_threads()
    measured = {
        **settings,
        "test_result": result["test_result"],
        "beyond": beyond,
        **{key: result[key] for key in OF_RUN},
        "latency_one": one,
        "latency_many": many,
        "latency_step": step,
        "versions": {"recbole-ssm": __version__} | {name: version(name) for name in ("recbole", "torch")},
        "machine": {"processor": processor(), "threads": threads, "device": str(config.device)},
    }
    return measured, samples


def main(file: str, parent: str) -> int:
    """Do what ``FILE.json`` asks for, and leave ``FILE.npz`` and ``FILE.result.json``.

    Args:
        file: ``FILE.json``.
        parent: number of the process that asked for it, with which this one ends.

    Returns:
        The exit status: 0 done, 1 the training diverged or could not be saved, 2 something cannot be used.
    """
    end_with_parent(int(parent))
    files = StudyRun.of(Path(file).with_suffix(""))
    try:
        with folder_lock(files.order_file.parent, wait=60.0):  # for the run of a study that was killed to end
            _do(files)
    except (InputError, TrainingDiverged, CheckpointNotWritten) as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def _do(files: StudyRun) -> None:
    asked = json.loads(files.order_file.read_text(encoding="utf-8"))
    measured, samples = train_and_measure(asked, files)
    with atomic_write(files.samples_file) as content:
        np.savez_compressed(content, **{name: np.asarray(values) for name, values in samples.items()})
    files.keep({"asked": asked, **measured})
    files.trained_file.unlink(missing_ok=True)
    files.progress.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
