"""The verb: from its arguments to a folder with a report."""

from __future__ import annotations

import json

from jinja2 import Environment, PackageLoader
from rich.console import Console

from recbole_ssm.compare import tables
from recbole_ssm.compare.plots import plots
from recbole_ssm.compare.study import Study
from recbole_ssm.compare.summary import Row, summarise
from recbole_ssm.errors import InputError


def compare(study: Study, baseline: str | None = None, command: str = "") -> list[Row]:
    """Do the runs of a comparison that are not done yet, and write what all of them come to.

    Args:
        study: what is compared. Its folder gets ``report.html`` (self-contained), ``table.md``, ``table.csv`` and
            ``results.json``; ``runs/`` has the log and the result of each run.
        baseline: the model that the others are tested against; by default the first one.
        command: shown in the report.

    Returns:
        A row for each model, the best first.

    Raises:
        InputError: something cannot be used; or, once the report is written, runs have failed.
    """
    baseline = baseline or study.models[0]
    if baseline not in study.models:
        raise InputError(f"the baseline {baseline} is none of the models {', '.join(study.models)}")
    study.check()
    console = Console()
    failed = study.train(lambda line: console.print(line, markup=False, highlight=False))
    if all(study.result(baseline, seed) is None for seed in study.seeds):
        raise InputError(f"no run of the baseline {baseline} came to its end; these failed: " + "; ".join(failed))
    rows = summarise(study, baseline)
    console.print(tables.terminal(rows, baseline))
    write(study, rows, baseline, command, failed)
    console.print(f"report: {study.folder / 'report.html'}", markup=False, highlight=False)
    if failed:
        raise InputError("these runs failed, and the report is without them: " + "; ".join(failed))
    return rows


def write(study: Study, rows: list[Row], baseline: str, command: str, failed: list[str]) -> None:
    """The report in all its forms."""
    found = {
        "dataset": study.dataset,
        "baseline": baseline,
        "command": command,
        "failed": failed,
        "models": [tables.record(row) for row in rows],
        "runs": [{**run, "model": row.model} for row in rows for run in row.runs],
    }
    page = Environment(loader=PackageLoader("recbole_ssm.compare", "."), autoescape=True).get_template("report.html.j2")
    texts = {
        "results.json": json.dumps(found, indent=1) + "\n",
        "table.csv": tables.as_csv(rows),
        "table.md": tables.markdown(rows, baseline),
        "report.html": page.render(
            dataset=study.dataset,
            command=command,
            columns=tables.COLUMNS,
            rows=[(tables.title(row, baseline), list(tables.cells(row).values())) for row in rows],
            footnotes=tables.footnotes(rows, baseline),
            failed=failed,
            plots=plots(rows),
        ),
    }
    for name, text in texts.items():
        (study.folder / name).write_text(text, encoding="utf-8")
