"""Items that nobody has had: who finds them among all items, and by what.

    python benchmarks/cold_items.py amazon-beauty --data_path=/data --transition_memory=False --epochs=3 \\
        --titles --mamrec epochs=3 --features=categories --vectors titles.safetensors

A share of the items (``cold_items``) is in no training, and the users whose last item is one of them are tested: HR@10
and NDCG@10 of these items among all, and HR@10 among those that are held back alone, as in a list of new items. Beside
chance and popularity stands a model that knows items by their ids, by columns of the ``.item`` file, and by a file of
vectors, which ``recbole-ssm item-vectors`` makes of titles. ``--titles`` adds BM25, and ``--mamrec`` a MamRec that
ranks by the probability of titles, with keys of its own training. Further arguments ``--key=value`` are keys of
trainings. A ``transition_memory``, which some data have by default, puts what it has seen before all else. Each
training prints its own progress.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from arguments import key_value
from tabulate import tabulate

import recbole_ssm
from recbole_ssm.config.config import Config
from recbole_ssm.data import create_dataset
from recbole_ssm.data.cold_items import are_cold
from recbole_ssm.data.dataset import HISTORY_END, HISTORY_START

K = 10
LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"}
COLUMNS = ["known by", "HR@10", "NDCG@10", "times chance", "HR@10 among cold", "epochs", "minutes"]


def chance(items: int) -> tuple[float, float]:
    """HR@10 and NDCG@10 of a random order of so many items."""
    return K / items, sum(1 / math.log2(rank + 1) for rank in range(1, K + 1)) / items


def among_cold(checkpoint: str, config: Config) -> tuple[float, float]:
    """HR@10 of the tested items among those that are held back: of a model, and by chance."""
    recommender = recbole_ssm.Recommender(checkpoint, filter_seen=True)
    data = create_dataset(config, packed=True)
    test = data.build()[2]
    names = data.field2id_token[data.iid_field]
    cold = [str(name) for name in names[are_cold(names, config.cold_items)]]
    ends = zip(test.inter_feat[HISTORY_START].tolist(), test.inter_feat[HISTORY_END].tolist(), strict=True)
    histories = [[str(name) for name in names[test.history[start:end].numpy()]] for start, end in ends]
    found = recommender.recommend(histories, K, candidates=cold)
    targets = [str(name) for name in names[test.inter_feat[data.iid_field].numpy()]]
    hits = [target in dict(best) for target, best in zip(targets, found, strict=True)]
    return sum(hits) / len(hits), min(1.0, K / len(cold))


def parsed(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """What was given, and keys of the trainings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--model", default="2Mamba4Rec", help="default 2Mamba4Rec")
    parser.add_argument(
        "--cold_items", type=float, default=0.1, help="share of the items that is held back; default .1"
    )
    parser.add_argument("--no_ids", action="store_true", help="leave out the model that knows items by their ids alone")
    parser.add_argument("--titles", action="store_true", help="also BM25 of the last item's title, without a training")
    parser.add_argument(
        "--mamrec",
        nargs="*",
        type=key_value,
        metavar="KEY=VALUE",
        help="also MamRec by titles, and keys of its training",
    )
    parser.add_argument("--features", default="", help="columns of the .item file, separated by commas")
    parser.add_argument("--vectors", nargs="*", default=[], help="files of vectors, each for a training of its own")
    parser.add_argument("--used", nargs="*", default=["added", "frozen"], help="item_vectors_as; default added frozen")
    return parser.parse_known_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one after another, and print a table."""
    given, keys = parsed(arguments)
    ways: list[tuple[str, str, dict[str, object]]] = [("popularity", "Pop", {"eval_args": LEAVE_ONE_OUT})]
    if given.titles:
        ways.append(("BM25 of the last title", "BM25", {}))
    if given.mamrec is not None:
        ways.append(("titles, by MamRec", "MamRec", {"item_scores": "titles"}))
    if not given.no_ids:
        ways.append(("ids", given.model, {}))
    if given.features:
        ways.append((f"ids, {given.features}", given.model, {"item_features": given.features}))
    for file in given.vectors:
        ways += [(f"{file}, {how}", given.model, {"item_vectors": file, "item_vectors_as": how}) for how in given.used]
    rows, items, by_chance_among = [], 0, 0.0
    for what, model, of_way in ways:
        settings = {"cold_items": given.cold_items, "filter_seen": True, **of_way}
        of_all = [
            word for word in keys if model == given.model or word.startswith(("--data_path=", "--checkpoint_dir="))
        ]
        if model == "MamRec":
            of_all += [f"--{word}" for word in given.mamrec or ()]
        result = recbole_ssm.run(model, given.dataset, config_dict=settings, command_line=of_all)
        hit, ndcg = (result["test_result"][f"{name}@{K}"] for name in ("hit", "ndcg"))
        minutes = sum(each["train_seconds"] for each in result["history"]) / 60
        among: float | None = None
        if model != "Pop":
            config = Config(model, given.dataset, config_dict=settings, command_line=of_all)
            among, by_chance_among = among_cold(result["checkpoint"], config)
            items = len(recbole_ssm.Recommender(result["checkpoint"]).items) - 1
        rows.append([what, hit, ndcg, hit, among, result["epochs"], minutes])
    by_chance = chance(items)
    rows = [["chance", *by_chance, by_chance[0], by_chance_among], *rows]
    rows = [[what, hit, ndcg, hit / by_chance[0], *rest] for what, hit, ndcg, _, *rest in rows]
    print(f"{given.dataset}, {given.model}: {given.cold_items:g} of {items:,} items are in no training")
    print(tabulate(rows, COLUMNS, floatfmt=("", ".4f", ".4f", ".1f", ".4f", ".0f", ".1f")))


if __name__ == "__main__":
    main()
