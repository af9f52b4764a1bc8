"""A training step of RecTools' SASRec and of models of this package, in the same contention, as processes in turns.

    pip install "rectools[torch]==0.19.0"
    python benchmarks/against_rectools.py 2Mamba4Rec --dataset=ml-1m --data_path=/data --beside=2

RecTools' model has 2 blocks of width 64, reads the latest 200 items, and learns with a full softmax. Both have two
threads, which sleep while they wait, and batches of 64 users; models of this package train by their recipe for the
dataset, where there is one, with histories as long as it says. An epoch is as many batches as the users fill.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter

import recbole_ssm  # noqa: F401  (before torch, as run_recbole_ssm.py has it)

# isort: split
from arguments import at_least_one
from beside import Worker, others
from measuring import machine, median_ratio
from training import steps

from recbole_ssm.config.config import Config
from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.data import create_dataset
from recbole_ssm.errors import InputError

PASSIVE = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
USERS = 64
"""Of a batch."""


def rectools_worker(dataset: str, options: dict, batches: int) -> Callable[[], float]:
    """A function that trains RecTools' model anew and returns the seconds of so many batches, after one to warm up."""
    import pandas as pd
    import pytorch_lightning as lightning
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    seconds: list[float] = []  # not the clock's own: RecTools copies it

    class Clock(lightning.Callback):
        def on_train_batch_start(self, *_) -> None:
            self.start = perf_counter()

        def on_train_batch_end(self, *_) -> None:
            seconds.append(perf_counter() - self.start)

    def run() -> float:
        seconds.clear()
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        quiet |= {"enable_model_summary": False, "accelerator": "cpu"}
        model = SASRecModel(
            n_blocks=2,
            n_factors=64,
            session_max_len=200,
            loss="softmax",
            batch_size=USERS,
            get_trainer_func=lambda: lightning.Trainer(
                max_epochs=1, limit_train_batches=batches + 1, callbacks=[Clock()], **quiet
            ),
        )
        model.fit(interactions)
        return sum(seconds[1:])

    config = Config(dataset=dataset, model="PackedSASRec", config_dict=options)
    data = create_dataset(config, packed=True)
    frame = data.inter_feat[[data.uid_field, data.iid_field, data.time_field]].sort_values(data.time_field)
    frame.columns = [Columns.User, Columns.Item, Columns.Datetime]
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="s")
    held_out = frame.groupby(Columns.User).cumcount(ascending=False) < 2  # for validation and test
    interactions = Dataset.construct(frame[~held_out].assign(**{Columns.Weight: 1.0}))
    return run


def worker(model: str, dataset: str, files: Sequence[str], options: dict, batches: int) -> Callable[[], float]:
    """A function that trains a model of this package and returns the seconds of so many batches."""
    train, _ = steps(model, dataset, files, options | {"train_batch_size": USERS}, batches)

    def run() -> float:
        start = perf_counter()
        train()
        return perf_counter() - start

    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", help="of this package")
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--data_path", default="dataset")
    parser.add_argument("--beside", type=at_least_one, metavar="N", help="processes that compute at the same time")
    parser.add_argument("--batches", type=at_least_one, default=5, help="in each round")
    parser.add_argument("--rounds", type=at_least_one, default=3)
    given = parser.parse_args(arguments)
    try:
        rectools = version("rectools")
    except PackageNotFoundError:
        parser.error('RecTools is not installed: pip install "rectools[torch]==0.19.0"')
    recipe = f"recipe/{given.model}-{given.dataset}"
    files = [recipe] if (properties_folder() / f"{recipe}.yaml").is_file() else []
    options = {"data_path": given.data_path}
    try:
        config = Config(given.model, given.dataset, files, options)
        users = create_dataset(config, packed=True).user_num - 1
        if not config.is_packed:
            raise InputError(f"{given.model} is no model of this package")
    except InputError as error:
        parser.error(str(error))
    names = f"RecTools {rectools} SASRec", given.model
    with others(given.beside or 0) as computing:
        theirs = Worker(PASSIVE, rectools_worker, given.dataset, options, given.batches)
        ours = Worker(PASSIVE, worker, given.model, given.dataset, files, options, given.batches)
        computing.set()
        seconds = {name: [] for name in names}
        for round_ in range(given.rounds + 1):
            for name, run in zip(names, (theirs, ours), strict=True):
                took = run() / given.batches
                if round_:  # the one before warms up
                    seconds[name].append(took)
    print(f"{machine()['cpu']}, {given.dataset}, two threads each, {given.beside or 'no'} processes beside\n")
    print(f"{'':28}{'s a batch of 64 users':>22}{'s an epoch':>12}")
    for name in names:
        median = statistics.median(seconds[name])
        print(f"{name:28}{median:>22.3f}{median * math.ceil(users / USERS):>12.1f}")
    print(f"\n{given.model} is {median_ratio(*(seconds[name] for name in names)):.1f} times as fast")


if __name__ == "__main__":
    main()
