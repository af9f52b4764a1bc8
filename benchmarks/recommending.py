"""Recommendations for all users: this package's ``recommend --out``, and RecBole's ``full_sort_topk`` on its SASRec.

    python benchmarks/recommending.py PackedSASRec 2Mamba4Rec --dataset=ml-1m --data_path=/data

Both take turns in one process, on the same data: from histories in memory to names and scores of the best items of each
user. RecBole's has its default size and reads the latest 50 items, and so does PackedSASRec; the other models of this
package have their published sizes and read all. Weights are random, which makes no difference to the time. Reading the
data, and writing a file, are not timed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import recbole_ssm  # noqa: F401  (before torch, as run_recbole_ssm.py has it)

# isort: split
import numpy as np
from arguments import at_least_one
from measuring import alternate, machine, median_ratio
from recbole.data import create_dataset as create_recbole_dataset
from recbole.data import data_preparation
from recbole.model.sequential_recommender import SASRec
from recbole.utils import init_seed
from recbole.utils.case_study import full_sort_topk
from tabulate import tabulate

from recbole_ssm import Recommender
from recbole_ssm.config.config import Config
from recbole_ssm.serving.answers import known_of_users
from recbole_ssm.serving.everybody import recommend_to_all
from recbole_ssm.system import threads
from recbole_ssm.testing.checkpoints import made_checkpoint

OWN = "RecBole's SASRec"


def recboles(dataset: str, path: str, k: int, at_once: int) -> tuple[Callable[[], int], list[str]]:
    """A function that recommends to all users and says to how many; and the names of the items."""
    config = Config("SASRec", dataset, config_dict={"data_path": path, "use_gpu": False, "MAX_ITEM_LIST_LENGTH": 50})
    init_seed(config["seed"], True)
    read = create_recbole_dataset(config)
    train, _, test = data_preparation(config, read)
    model = SASRec(config, train.dataset).eval()
    users = test.dataset.inter_feat[config["USER_ID_FIELD"]].unique().numpy()

    def run() -> int:
        rows = []
        for start in range(0, len(users), at_once):
            some = users[start : start + at_once]
            scores, items = full_sort_topk(some, model, test, k)
            names = read.id2token(read.iid_field, items)
            rows += zip(read.id2token(read.uid_field, some).tolist(), names.tolist(), scores.tolist(), strict=True)
        return len(rows)

    return run, [str(name) for name in read.field2id_token[read.iid_field][1:]]


def ours(model: str, items: Sequence[str], dataset: str, path: str, k: int) -> Callable[[], int]:
    """The same of a model of this package."""
    settings = {"MAX_ITEM_LIST_LENGTH": 50} if model == "PackedSASRec" else {}
    with tempfile.TemporaryDirectory() as folder:
        recommender = Recommender(made_checkpoint(Path(folder) / "made.pth", items, model, **settings))
    known = known_of_users(recommender, dataset, [f"--data_path={path}"], None)

    def run() -> int:
        return sum(len(rows) for _, rows in recommend_to_all(recommender, known, k)) // k

    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("models", nargs="+", help="of this package")
    parser.add_argument("--dataset", default="ml-1m")
    parser.add_argument("--data_path", default="dataset")
    parser.add_argument("--k", type=at_least_one, default=10, help="recommendations of each user; default 10")
    parser.add_argument("--at_once", type=at_least_one, default=256, help="users that RecBole's ranks at once")
    parser.add_argument("--rounds", type=at_least_one, default=5)
    given = parser.parse_args(arguments)
    theirs, items = recboles(given.dataset, given.data_path, given.k, given.at_once)
    runs = {OWN: theirs}
    runs |= {name: ours(name, items, given.dataset, given.data_path, given.k) for name in given.models}
    counts: dict[str, int] = {}

    def counted(name: str) -> Callable[[], None]:
        return lambda: counts.__setitem__(name, runs[name]())

    with threads.chosen(threads.HELPFUL):
        seconds = alternate({name: counted(name) for name in runs}, given.rounds)
    rows = [
        [
            name,
            counts[name] / statistics.median(took),
            median_ratio(_each(seconds[OWN], counts[OWN]), _each(took, counts[name])),
        ]
        for name, took in seconds.items()
    ]
    print(f"{given.dataset}, the best {given.k} items of {counts[OWN]:,} users, {machine()['cpu']}")
    print(tabulate(rows, ["", "users a second", "times RecBole's"], floatfmt=("", ",.0f", ".1f")))


def _each(seconds: Sequence[float], users: int) -> list[float]:
    return (np.array(seconds) / users).tolist()


if __name__ == "__main__":
    main()
