"""A comparison as tables and as records."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from statistics import mean, stdev
from typing import Literal, get_args

import numpy as np
from rich.console import Group

from recbole_ssm.studies.compare.beyond import LEGENDS
from recbole_ssm.studies.compare.measuring import AT, METRICS
from recbole_ssm.studies.compare.significance import stars
from recbole_ssm.studies.compare.summary import Row, spread
from recbole_ssm.studies.report import Table

TABLES = {
    "Accuracy": {
        "HR@10": "share of test items among the first ten",
        "NDCG@10": "the same, discounted by rank",
        "MRR@10": "mean of 1 / rank, 0 below the tenth",
        "seeds": "runs",
    },
    "Time to recommend to one user": {
        "1 user ms": "the ten best for one user, the history read anew: median",
        "1 user p99": "ms, 99th percentile of that",
        "1 click ms": "the same after one click more, where the model keeps a state: one step, whatever the history",
        "1 click p99": "ms, 99th percentile of that",
    },
    "Time to recommend to 1,024 users": {
        "1024 users ms": "the ten best for 1,024 users at once, or as many as there are, histories read anew: median",
        "1024 users p99": "ms, 99th percentile of that",
        "users / s": "users per second in full ranking, from the median",
    },
    "Training": {
        "s / epoch": "seconds of training per epoch, median",
        "s to best": "seconds of training and validation up to the best epoch",
        "epochs": "trained until it stopped, median",
        "GiB": "most memory held in training",
    },
    "Size": {
        "parameters": "trainable numbers",
        "without items": "the same without the embedding of items",
    },
}
"""Title and columns of each table, and the legend of each column."""

Kind = Literal["latency_one", "latency_step", "latency_many"]
What = Literal["users", "median_ms", "p99_ms", "mean_history"]
KINDS: dict[str, Kind] = {"1 user": "latency_one", "1 click": "latency_step", "1024 users": "latency_many"}
"""What is timed, and where a record has it."""


def tables(rows: list[Row], baseline: str) -> list[Table]:
    """Tables of all rows, narrow enough for a terminal; the best of each metric is marked.

    Columns that are empty in all rows are left out, and so are tables without columns.
    """
    words = [cells(row) | beyond_cells(row) for row in rows]
    beyond = {_head(name): LEGENDS.get(name, (name, f"RecBole's {name}"))[1] for name in beyond_names(rows)}
    all_tables = {"Accuracy": TABLES["Accuracy"], "Beyond accuracy": beyond, **TABLES}
    best = [(int(np.argmax([mean(row.scores(m)) for row in rows])), column) for column, m in enumerate(METRICS)]
    found = []
    for name, all_columns in all_tables.items():
        columns = {column: text for column, text in all_columns.items() if any(own.get(column) for own in words)}
        if columns:
            cells_of = [[own.get(column, "") for column in columns] for own in words]
            lines = [(title(row, baseline), own) for row, own in zip(rows, cells_of, strict=True)]
            stands_out = frozenset(best if name == "Accuracy" and len(rows) > 1 else ())
            found.append(Table(name, columns, lines, stands_out))
    return found


def cells(row: Row) -> dict[str, str]:
    """The text of a row in each column."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    found = {}
    for metric, name in METRICS.items():
        found[f"{name}@{AT}"] = spread(row.scores(metric)) + stars(row.p_values.get(metric, 1.0))
    for name, kind in KINDS.items():
        found[f"{name} ms"] = number(latency(row, kind, "median_ms"), ".2f")
        found[f"{name} p99"] = number(latency(row, kind, "p99_ms"), ".2f")
    return found | {
        "seeds": str(len(row.runs)),
        "users / s": number(users_per_second(row), ",.0f"),
        "s / epoch": number(row.middle(lambda run: run["seconds_per_epoch"]), ".1f"),
        "s to best": number(row.middle(lambda run: run["seconds_to_best"]), ".0f"),
        "epochs": number(row.middle(lambda run: run["epochs"]), ".0f"),
        "GiB": number(row.middle(lambda run: run["peak_memory_gib"]), ".2f"),
        "parameters": f"{row.runs[0]['parameters']:,}",
        "without items": f"{row.runs[0]['parameters_without_item_embedding']:,}",
    }


def beyond_names(rows: list[Row]) -> list[str]:
    """The metrics beyond accuracy that a run has, by their names in small letters."""
    return list(dict.fromkeys(name for row in rows for run in row.runs for name in run["beyond"]))


def beyond_cells(row: Row) -> dict[str, str]:
    """The text of a row for each metric beyond accuracy that all its runs have."""
    return {_head(name): spread(each, 4 if max(each) < 1 else 2) for name, each in beyond_values(row).items()}


def beyond_values(row: Row) -> dict[str, list[float]]:
    """The values of all runs for each metric beyond accuracy that they have."""
    names = [name for name in beyond_names([row]) if all(name in run["beyond"] for run in row.runs)]
    return {name: [run["beyond"][name] for run in row.runs] for name in names}


def _head(name: str) -> str:
    return f"{LEGENDS.get(name, (name, ''))[0]}@{AT}"


def latency(row: Row, kind: Kind, what: What) -> float | None:
    """The median of a latency over runs; None where a run has none."""
    return row.middle(lambda run: None if (found := run[kind]) is None else found.get(what))


def users_per_second(row: Row) -> float | None:
    """Users per second in full ranking, many users at a time."""
    return row.middle(
        lambda run: None if (found := run["latency_many"]) is None else 1000 * found["users"] / found["median_ms"]
    )


def protocol(rows: list[Row]) -> str:
    """What all rows have in common: split, order and filter, and whether validation items were trained on."""
    runs = [run for row in rows for run in row.runs]
    splits = " or ".join(sorted({run["split"] for run in runs if run["split"] is not None}))
    orders = " or ".join(sorted({run["time_order"] for run in runs}))
    rules = "; ".join(sorted({run["rule_of_seen"] for run in runs}))
    repeated = max((run["repeated_targets"] or 0.0 for run in runs), default=0.0)
    told = [
        f"{splits[:1].upper()}{splits[1:]}." if splits else "",
        f"time_order {orders}; {rules}.",
        f"{repeated:.1%} of the test targets are items that their users have had before." if repeated else "",
    ]
    return " ".join(filter(None, told))


def footnotes(rows: list[Row], baseline: str) -> list[str]:
    """Notes on tests and machine."""
    machine = rows[0].runs[0]["machine"]
    history = next((run["latency_one"]["mean_history"] for row in rows for run in row.runs if run["latency_one"]), None)
    many = next((run["latency_many"]["users"] for row in rows for run in row.runs if run["latency_many"]), 1024)
    tested = f"epoch with the best validation NDCG@{AT}" if any(row.validated for row in rows) else "last epoch"
    return [
        f"The model of the {tested}; mean ± standard deviation over seeds, times and memory medians over seeds.",
        f"Stars: paired permutation test over users (all seeds together) against {baseline}, Holm-corrected: "
        "* p < .05, ** p < .01, *** p < .001.",
        f"On {machine['processor']}, {machine['threads']} thread(s), {machine['device']}."
        + (f" Latency with histories of {history:.0f} items on average." if history else "")
        + (f" Where the tables say 1,024 users it is all {many} that are tested." if many < 1024 else ""),
    ]


def terminal(rows: list[Row], baseline: str) -> Group:
    """The protocol, the tables and the footnotes, for rich to print."""
    return Group(protocol(rows), *(table.terminal() for table in tables(rows, baseline)), *footnotes(rows, baseline))


def record(row: Row, beyond: Sequence[str]) -> dict:
    """The numbers of a row as a flat record, with the metrics of :func:`beyond_names` of all rows."""
    found: dict = {"name": row.name, "seeds": len(row.runs)}
    for metric, name in METRICS.items():
        scores = row.scores(metric)
        found[f"{name}@{AT}"] = mean(scores)
        found[f"{name}@{AT} deviation"] = stdev(scores) if len(scores) > 1 else 0.0
        found[f"{name}@{AT} p"] = row.p_values.get(metric)
    for name in beyond:
        values = beyond_values(row).get(name)
        found[f"{name}@{AT}"] = None if values is None else mean(values)
    for kind in KINDS.values():
        for what in get_args(What):
            found[f"{kind} {what}"] = latency(row, kind, what)
    found["users_per_second"] = users_per_second(row)
    found["parameters"] = row.runs[0]["parameters"]
    found["parameters_without_item_embedding"] = row.runs[0]["parameters_without_item_embedding"]
    for key in ("seconds_per_epoch", "seconds_to_best", "peak_memory_gib"):
        found[key] = row.middle(itemgetter(key))
    return found


def title(row: Row, baseline: str) -> str:
    """The name of a row, with a mark at the baseline."""
    return row.name + (" (baseline)" if row.name == baseline else "")
