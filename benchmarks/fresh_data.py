"""What ``init_from`` saves when data grow, and what it costs: ``python benchmarks/fresh_data.py ml-100k``.

A model is trained on the first nine tenths of the interactions in time. Then the last tenth arrives, with new users and
items, and all data are trained on twice: from new weights, and with ``init_from`` that model. Each is tested on the
last item of every user; no training has seen that item. Arguments ``--key=value`` are keys of all three trainings.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd
import recbole
from tabulate import tabulate

import recbole_ssm

EARLY = 0.9
"""The share of the interactions that are there at first."""


def interactions(name: str, path: str | None) -> pd.DataFrame:
    """The interactions of a data set: users, items and times."""
    folder = Path(recbole.__file__).parent / "dataset_example" if path is None else Path(path)
    file = folder / name / f"{name}.inter"
    return pd.read_csv(file, sep="\t", usecols=["user_id:token", "item_id:token", "timestamp:float"], dtype=str)


def main() -> None:
    """Train three times, and print a table."""
    name, *keys = sys.argv[1:]
    given = dict(key.removeprefix("--").split("=", 1) for key in keys)
    model, path = given.pop("model", "2Mamba4Rec"), given.pop("data_path", None)
    whole = interactions(name, path)
    time = whole["timestamp:float"].astype(float)
    early = whole[time <= time.quantile(EARLY)]
    with tempfile.TemporaryDirectory() as folder:
        for called, frame in (("early", early), ("whole", whole)):
            (Path(folder) / called).mkdir()
            frame.to_csv(Path(folder) / called / f"{called}.inter", sep="\t", index=False)
        fixed = {**given, "data_path": folder, "checkpoint_dir": folder}
        before = recbole_ssm.run(model, "early", config_dict=fixed)
        anew = recbole_ssm.run(model, "whole", config_dict=fixed)
        begun = recbole_ssm.run(model, "whole", config_dict={**fixed, "init_from": before["checkpoint"]})
    rows = []
    for what, result in (("from new weights", anew), ("with init_from", begun)):
        seconds, tested = sum(epoch["train_seconds"] for epoch in result["history"]), result["test_result"]
        rows.append([what, result["epochs"], seconds, result["best_valid_score"], tested["hit@10"], tested["ndcg@10"]])
    new = whole["item_id:token"].nunique() - early["item_id:token"].nunique()
    print(f"{name}, {model}: {len(early):,} interactions, then {len(whole):,} with {new} new items")
    print(tabulate(rows, ["training", "epochs", "training seconds", "validation", "HR@10", "NDCG@10"], floatfmt=".4f"))


if __name__ == "__main__":
    main()
