"""A comparison as a table: in the terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from statistics import mean, stdev

from rich.console import Group
from rich.table import Table

from recbole_ssm import report
from recbole_ssm.compare.measuring import AT, METRICS
from recbole_ssm.compare.significance import stars
from recbole_ssm.compare.summary import Row, spread

COLUMNS = {
    "HR@10": "share of test items among the first ten",
    "NDCG@10": "the same, discounted by rank; stars: against the baseline",
    "MRR@10": "mean of 1 / rank, 0 below the tenth",
    "1 user ms": "the ten best for one user, the history read anew: median (99th percentile)",
    "1 click ms": "the same after one click more, where the model keeps a state: one step, whatever the history",
    "1024 users ms": "the same for 1,024 users at once, or as many as there are",
    "users / s": "users per second in full ranking, from the column before",
    "parameters": "trainable numbers",
    "without items": "the same without the embedding of items",
    "s / epoch": "seconds of training per epoch, median",
    "s to best": "seconds of training and validation up to the best epoch",
    "GiB": "most memory held in training",
    "seeds": "runs",
}
"""Columns, and what they say."""

_NARROW = (
    ("HR@10", "NDCG@10", "MRR@10", "seeds"),
    ("1 user ms", "1 click ms", "1024 users ms", "users / s"),
    ("parameters", "without items", "s / epoch", "s to best", "GiB"),
)


def cells(row: Row) -> dict[str, str]:
    """A model's words in each column."""

    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    def time(kind: str) -> str:
        middle, high = latency(row, kind, "median_ms"), latency(row, kind, "p99_ms")
        return "" if middle is None else f"{middle:.2f} ({high:.2f})"

    found = {}
    for metric, name in METRICS.items():
        found[f"{name}@{AT}"] = spread(row.scores(metric)) + stars(row.p_values.get(metric, 1.0))
    return found | {
        "1 user ms": time("latency_one"),
        "1 click ms": time("latency_step"),
        "1024 users ms": time("latency_many"),
        "users / s": number(users_per_second(row), ",.0f"),
        "parameters": f"{row.runs[0]['parameters']:,}",
        "without items": f"{row.runs[0]['parameters_without_item_embedding']:,}",
        "s / epoch": number(row.middle(lambda run: run["seconds_per_epoch"]), ".1f"),
        "s to best": number(row.middle(lambda run: run["seconds_to_best"]), ".0f"),
        "GiB": number(row.middle(lambda run: run["peak_memory_gib"]), ".2f"),
        "seeds": str(len(row.runs)),
    }


def latency(row: Row, kind: str, what: str) -> float | None:
    """The median over runs of a latency; None where they have none, as those of an earlier version may."""
    return row.middle(lambda run: (run.get(kind) or {}).get(what))


def users_per_second(row: Row) -> float | None:
    """Of full ranking, many users at a time."""
    return row.middle(
        lambda run: run["latency_many"] and 1000 * run["latency_many"]["users"] / run["latency_many"]["median_ms"]
    )


def footnotes(rows: list[Row], baseline: str) -> list[str]:
    """What holds for the whole table."""
    machine = rows[0].runs[0]["machine"]
    runs = [run for row in rows for run in row.runs]
    ranking = ", ".join(
        f"{key} {' or '.join(sorted({str(run[key]) for run in runs}))}" for key in ("time_order", "filter_seen")
    )
    history = next((run["latency_one"]["mean_history"] for row in rows for run in row.runs if run["latency_one"]), None)
    tested = f"epoch with the best validation NDCG@{AT}" if any(row.validated for row in rows) else "last epoch"
    return [
        f"{ranking}; the model of the {tested}; mean ± standard deviation over seeds, times and memory medians over "
        "seeds.",
        f"Stars: paired permutation test over test samples (means over seeds) against {baseline}, Holm-corrected: "
        "* p < .05, ** p < .01, *** p < .001.",
        f"On {machine['processor']}, {machine['threads']} thread(s), {machine['device']}."
        + (f" Latency with histories of {history:.0f} items on average." if history else ""),
    ]


def terminal(rows: list[Row], baseline: str) -> Group:
    """For rich to print: tables narrow enough for a terminal, one below the other."""
    parts = []
    for names in _NARROW:
        table = Table()
        table.add_column("")
        for name in names:
            table.add_column(name, justify="right")
        for row in rows:
            found = cells(row)
            table.add_row(title(row, baseline), *(found[name] for name in names))
        parts.append(table)
    return Group(*parts, *footnotes(rows, baseline))


def markdown(rows: list[Row], baseline: str) -> str:
    """A table, what its columns say, and its footnotes."""
    named = [(title(row, baseline), list(cells(row).values())) for row in rows]
    return report.markdown(COLUMNS, named, footnotes(rows, baseline))


def as_csv(rows: list[Row]) -> str:
    """Numbers to their last digit, a line for each model."""
    text = io.StringIO()
    records = [record(row) for row in rows]
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def record(row: Row) -> dict:
    """Numbers of a model, by flat names."""
    found: dict = {"name": row.name, "seeds": len(row.runs)}
    for metric, name in METRICS.items():
        scores = row.scores(metric)
        found[f"{name}@{AT}"] = mean(scores)
        found[f"{name}@{AT} deviation"] = stdev(scores) if len(scores) > 1 else 0.0
        found[f"{name}@{AT} p"] = row.p_values.get(metric)
    for kind in ("latency_one", "latency_step", "latency_many"):
        for what in ("users", "median_ms", "p99_ms", "mean_history"):
            found[f"{kind} {what}"] = latency(row, kind, what)
    found["users_per_second"] = users_per_second(row)
    for key in ("parameters", "parameters_without_item_embedding"):
        found[key] = row.runs[0][key]
    for key in ("seconds_per_epoch", "seconds_to_best", "peak_memory_gib"):
        found[key] = row.middle(lambda run, key=key: run[key])
    return found


def title(row: Row, baseline: str) -> str:
    """What a row is called."""
    return row.name + (" (baseline)" if row.name == baseline else "")
