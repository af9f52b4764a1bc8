"""The verbs ``compare`` and ``sweep``: from a study to a folder with a report."""

from __future__ import annotations

import json
from statistics import mean

from rich.console import Console

from recbole_ssm.compare import tables
from recbole_ssm.compare.plots import by_value, plots
from recbole_ssm.compare.study import Study, Variant
from recbole_ssm.compare.summary import Row, summarise
from recbole_ssm.errors import InputError
from recbole_ssm.report import render


def compare(study: Study, baseline: str | None = None, command: str = "", parameter: str | None = None) -> list[Row]:
    """Do the runs of a comparison that are not done yet, and write what all of them come to.

    Args:
        study: what is compared. Its folder gets ``report.html`` (self-contained), ``table.md``, ``table.csv`` and
            ``results.json``; ``runs/`` has the log and the result of each run.
        baseline: the variant that the others are tested against; by default the first one.
        command: shown in the report.
        parameter: what the variants, :func:`values_of` it, differ in; None if they are different models.

    Returns:
        A row for each variant, the best first, or in the order of the values.

    Raises:
        InputError: something cannot be used; or, once the report is written, runs have failed.
    """
    names = [variant.name for variant in study.variants]
    baseline = baseline or names[0]
    if baseline not in names:
        raise InputError(f"the baseline {baseline} is none of {', '.join(names)}")
    study.check()
    console, as_it_is = Console(), {"markup": False, "highlight": False, "soft_wrap": True}
    failed = study.train(lambda line: console.print(line, **as_it_is))
    if all(study.result(baseline, seed) is None for seed in study.seeds):
        raise InputError(f"no run of the baseline {baseline} came to its end; these failed: " + "; ".join(failed))
    rows = summarise(study, baseline)
    if parameter is None:
        rows.sort(key=lambda row: -mean(row.scores("ndcg")))
    console.print(tables.terminal(rows, baseline))
    write(study, rows, baseline, command, failed, by_value(rows, parameter) if parameter else [])
    console.print(f"report: {study.folder / 'report.html'}", **as_it_is)
    if failed:
        raise InputError("these runs failed, and the report is without them: " + "; ".join(failed))
    return rows


def values_of(parameter: str, values: list[str], model: str) -> list[Variant]:
    """A variant of a model for each value of a configuration key, named ``parameter=value``."""
    return [Variant(f"{parameter}={value}", model, (f"--{parameter}={value}",)) for value in values]


def write(
    study: Study, rows: list[Row], baseline: str, command: str, failed: list[str], first: list[tuple[str, str]]
) -> None:
    """The report in all its forms; ``first`` are plots that go before those of every report."""
    found = {
        "dataset": study.dataset,
        "baseline": baseline,
        "command": command,
        "failed": failed,
        "rows": [tables.record(row) for row in rows],
        "runs": [{"name": row.name, **run} for row in rows for run in row.runs],
    }
    texts = {
        "results.json": json.dumps(found, indent=1) + "\n",
        "table.csv": tables.as_csv(rows),
        "table.md": tables.markdown(rows, baseline),
        "report.html": render(
            heading=f"{study.dataset}: {', '.join(row.name for row in rows)}",
            command=command,
            columns=tables.COLUMNS,
            rows=[(tables.title(row, baseline), list(tables.cells(row).values())) for row in rows],
            footnotes=tables.footnotes(rows, baseline),
            failed=failed,
            plots=[*first, *plots(rows)],
        ),
    }
    for name, text in texts.items():
        (study.folder / name).write_text(text, encoding="utf-8")
