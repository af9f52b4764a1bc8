"""The verbs ``compare`` and ``sweep``: from a study to a folder with a report."""

from __future__ import annotations

import signal
from statistics import mean

from recbole_ssm.errors import InputError
from recbole_ssm.studies.compare import tables
from recbole_ssm.studies.compare.figures import by_value, figures
from recbole_ssm.studies.compare.study import Study, Variant
from recbole_ssm.studies.compare.summary import Row, summarise
from recbole_ssm.studies.report import Report, write_csv
from recbole_ssm.system.atomic_write import write_json
from recbole_ssm.system.terminal import Console
from recbole_ssm.training.hooks.stopping import Interrupted


def compare(study: Study, baseline: str | None = None, command: str = "", parameter: str | None = None) -> list[Row]:
    """Do the runs of a comparison that are not done yet, and write the report of all.

    Args:
        study: what is compared. Its folder gets ``report.html`` (self-contained), ``table.md``, ``table.tex``,
            ``table.csv``, ``figures/`` (SVG and PDF) and ``results.json``; ``runs/`` has the log and the result of each
            run.
        baseline: the variant that the others are tested against; by default the first one.
        command: shown in the report.
        parameter: what the variants, :func:`values_of` it, differ in; None if they are different models.

    Returns:
        A row for each variant, the best first, or in the order of the values.

    Raises:
        InputError: something cannot be used; or, once the report is written, runs have failed.
        Interrupted: Ctrl-C; the same call goes on.
    """
    names = [variant.name for variant in study.variants]
    baseline = baseline or names[0]
    if baseline not in names:
        raise InputError(f"the baseline {baseline} is not one of {', '.join(names)}")
    notes = study.check()
    console = Console()
    for note in notes:
        console.tell(note)
    try:
        failed = study.train(console)
    except KeyboardInterrupt as stop:
        raise Interrupted(signal.SIGINT, study.folder, again="the same command") from stop
    if all(study.result(baseline, seed) is None for seed in study.seeds):
        raise InputError(f"no run of the baseline {baseline} came to its end; these failed: " + "; ".join(failed))
    rows = summarise(study, baseline)
    if parameter is None:
        rows.sort(key=lambda row: -mean(row.scores("ndcg")))
    console.print(tables.terminal(rows, baseline))
    if parameter is None:
        heading, first = f"{study.dataset}: {', '.join(row.name for row in rows)}", []
    else:
        model = study.variants[0].model
        heading, first = f"{model} on {study.dataset} by {parameter}", by_value(rows, model, parameter)
    shown = tables.tables(rows, baseline), tables.footnotes(rows, baseline), [*first, *figures(rows)]
    write(study, rows, baseline, Report(heading, command, *shown, failed, tables.protocol(rows)))
    console.tell(f"report: {study.folder / 'report.html'}")
    if failed:
        raise InputError("these runs failed, and the report is without them: " + "; ".join(failed))
    return rows


def values_of(parameter: str, values: list[str], model: str) -> list[Variant]:
    """A variant of a model for each value of a configuration key, named ``parameter=value``."""
    return [Variant(f"{parameter}={value}", model, (f"--{parameter}={value}",)) for value in values]


def write(study: Study, rows: list[Row], baseline: str, report: Report) -> None:
    """Write the report in all formats."""
    records = [tables.record(row, tables.beyond_names(rows)) for row in rows]
    found = {
        "dataset": study.dataset,
        "baseline": baseline,
        "command": report.command,
        "failed": report.failed,
        "rows": records,
        "runs": [{"name": row.name, **run} for row in rows for run in row.runs],
    }
    write_json(study.folder / "results.json", found)
    write_csv(study.folder / "table.csv", records)
    report.write(study.folder, "table")
