"""``results/README.md``: tables of all runs and of what others have reported. ``accuracy.py --tables`` writes it."""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
METRICS = {"HR": "hit", "NDCG": "ndcg", "MRR": "mrr"}
COLUMNS = [f"{name}@{k}" for k in (10, 20) for name in METRICS]
LEAVE_ONE_OUT = {"valid_and_test": "no", "test_only": "yes"}
"""Of the splits that leave one out: whether the validation items are trained on."""
ONLY_AN_ORDER = ("amazon-beauty", "amazon-toys", "amazon-video-games", "kuairand-pure")
"""Data whose times only count the items of a user: every ``time_order`` gives the same histories."""
FILTERS = {"unfiltered": "no item excluded", "filtered": "items of the history excluded"}
INTRODUCTION = """# Results

`python benchmarks/accuracy.py --tables` writes this page from `runs/*.json`. Each of these files has its command,
commit and versions, its hardware and every epoch. [NOTES.md](NOTES.md) says what else was tried.

- **What is tested.** Leave one out, ranking of all items, where a heading names no other split. The model is that of
  the epoch with the best validation NDCG@10, or MRR@10 for RecBole's own models.
- **validation trained on**: where it says yes, the model is that of the last epoch, with settings found before. Compare
  only rows that are equal in this.
- ***Italics*** are published figures; the best one is the first row. Those in RecBole's order have the same protocol
  and nearly the same test items: half of the times in the file of ml-1m-original-order that was used here are estimates
  ([dataset](../dataset/README.md)).
- **Numbers.** Mean ± standard deviation over seeds. `epochs` are those trained; a `time_budget` ends them early. Times
  are medians: training per epoch, and training and validation up to the epoch that is tested (s to best). GiB: peak
  memory.
- **Names.** MODEL-DATASET alone is a recipe, -wide one of `wide/`, -deep has more layers, -paper is one of `paper/`.
  **-default**: [settings from the data](../docs/defaults.md); models that count have their defaults.
  **-default-no-memory**: the same without a `transition_memory`. **-default-even-counts**: the same before it had a
  `memory_rarity`. **-memory**: with a memory, without a rarity. **-taught**: with a teacher, and else a recipe (ml-1m)
  or default settings (Amazon); -wide there: width 128. **-final**: validation items trained on, too.
- **-twenty-minutes**: RecBole's own models by default settings, with a `time_budget` of 1,200 seconds of one core.
- **-500-users**: 500 users, the same for all models, are validated and tested, in tables of their own.
- **(b)**: with `repeat_bias`, one learned number on the items of the history.
- **(t)**: with a `teacher`, whose own training is not in the times.
- **~**: other work ran beside it. The time is then what its cores have worked for it, where the run says that. Runs
  -default and -memory that do not say it had other work beside them, too: their times say little."""


def read_run(file: Path) -> dict:
    """A run that is done, with its name, which is that of the file without the seed."""
    run = {"name": re.sub(r"-\d+$", "", file.stem), **json.loads(file.read_text(encoding="utf-8"))}
    if "settings" not in run:
        sys.exit(f"{file} is of an earlier version of this script and does not say its settings; put it elsewhere")
    return run


def write(results: Path) -> Path:
    """``README.md`` of the folder, from all its runs and from ``benchmarks/published.yaml``."""
    runs = [read_run(file) for file in sorted((results / "runs").glob("*.json"))]
    runs = [run for run in runs if is_tested(run)]
    published = yaml.safe_load((ROOT / "benchmarks" / "published.yaml").read_text(encoding="utf-8"))
    lines = [INTRODUCTION, *pictures()]
    for key in sorted({protocol(run) for run in runs}):
        here = [run for run in runs if protocol(run) == key]
        for filtered, rule in FILTERS.items():
            theirs = [row for row in published if protocol(row) == key and row["filter"] == filtered]
            ours = [run for run in here if filtered in run["metrics"]]
            if ours:
                lines += ["", "## {}, time_order: {}{}".format(*key) + f", {rule}", "", *table(ours, theirs, filtered)]
        models = sorted({(run["name"], re.sub(r" --seed=\d+", "", run["command"])) for run in here})
        hardware = sorted({f"{run['hardware']['cpu']}, {run['hardware']['threads']} thread(s)" for run in here})
        lines += ["", *(f"- {name}: `{command}`" for name, command in models), f"- on {'; '.join(hardware)}"]
    target = results / "README.md"
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def is_tested(run: dict) -> bool:
    """Whether the split of a run left something to test."""
    return all(found["test"] is not None for found in run["metrics"].values())


def pictures() -> list[str]:
    """Links to the drawings of ``docs/make/results_picture.py``."""
    files = sorted((ROOT / "docs" / "images" / "results").glob("*.svg"))
    return [
        line
        for file in files
        for line in ("", f"![NDCG@10 over training time on {file.stem}](../docs/images/results/{file.name})")
    ]


def protocol(run: dict) -> tuple[str, str, str]:
    """Of a run or of a published figure: what must be the same where two stand in one table.

    A column says whether the validation items were trained on.
    """
    from recbole_ssm.config.splits import split_in_words

    split = run.get("split", {"LS": "valid_and_test"})
    words = "" if split.get("LS") in LEAVE_ONE_OUT else f", {split_in_words(split).partition(';')[0]}"
    if users := run.get("settings", {}).get("eval_users"):
        words += f", {users} users"
    return run["dataset"], "any" if run["dataset"] in ONLY_AN_ORDER else run["time_order"], words


def validation_trained_on(run: dict) -> str:
    """Whether a run or a published model was trained on the validation items, too: yes or no."""
    split = run.get("split", {"LS": "valid_and_test"})
    return LEAVE_ONE_OUT.get(split.get("LS"), "no" if split.get("temporal", {}).get("validation", 1) else "yes")


def table(runs: list[dict], published: list[dict], filtered: str) -> list[str]:
    """Rows of one dataset, order in time, split and filter: the best published one, then all others.

    Those whose validation items were not trained on come first, and the best of them before the others.
    """
    from recbole_ssm.system.markdown import markdown_table

    head = ["", *COLUMNS, "validation trained on", "seeds", "parameters", "epochs", "s / epoch", "s to best", "GiB"]
    by_name: dict[str, list[dict]] = {}
    for run in runs:
        by_name.setdefault(run["name"], []).append(run)
    rows = [(validation_trained_on(row), row["NDCG@10"], _published_row(row)) for row in published]
    first = [max(rows, key=lambda row: row[1])] if rows else []
    for name, same in by_name.items():
        ndcg = statistics.mean(run["metrics"][filtered]["test"]["ndcg@10"] for run in same)
        rows.append((validation_trained_on(same[0]), ndcg, _row(name, same, filtered)))
    others = sorted((row for row in rows if row not in first), key=lambda row: (row[0], -row[1]))
    return markdown_table(head, [cells for _, _, cells in [*first, *others]])


def _row(name: str, same: list[dict], filtered: str) -> list[str]:
    """One model, of one or more seeds."""
    from recbole_ssm.checkpoints.latest import differences

    for run in same:
        if other := ", ".join(differences(run["settings"], same[0]["settings"])):
            sys.exit(f"the runs of {name} differ in {other}: give those of other settings another name")
    tests = [run["metrics"][filtered]["test"] for run in same]
    values = [spread([t[f"{METRICS[c.split('@')[0]]}@{c.split('@')[1]}"] for t in tests]) for c in COLUMNS]
    epochs, gib = (statistics.median(run[key] for run in same) for key in ("epochs", "peak_memory_gib"))
    beside = "~" * any(share_of(run) < 1 for run in same)
    times = [
        f"{beside}{statistics.median(run[key] * share_of(run) for run in same):.0f}"
        for key in ("seconds_per_epoch", "seconds_to_best")
    ]
    mark = " (b)" * same[0]["repeat_bias"] + " (t)" * ("teacher" in same[0]["settings"])
    cost = [f"{epochs:.0f}", *times, f"{gib:.1f}"]
    return [
        f"{name}{mark}",
        *values,
        validation_trained_on(same[0]),
        str(len(same)),
        f"{same[0]['parameters']:,}",
        *cost,
    ]


def share_of(run: dict) -> float:
    """Which part of its time a run has had its cores; 1 where it had at least nine tenths, or does not say it."""
    share = run.get("processor_share") or 1.0
    return share if share < 0.9 else 1.0


def _published_row(row: dict) -> list[str]:
    values = [f"{row[c]:.4f}".removeprefix("0") if c in row else "" for c in COLUMNS]
    return [f"*{row['model']}: {row['source']}*", *values, validation_trained_on(row), *[""] * 6]


def spread(values: list[float]) -> str:
    """Mean, and the standard deviation where there is one."""
    mean = f"{statistics.mean(values):.4f}".removeprefix("0")
    if len(values) == 1:
        return mean
    return mean + " ± " + f"{statistics.stdev(values):.4f}".removeprefix("0")
