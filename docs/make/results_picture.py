"""Draws the results and writes README's table, from ``results/runs``: ``python docs/make/results_picture.py``.

Writes ``docs/images/results/DATASET.svg`` (accuracy over training time) and, in ``README.md``, the lines between the
comments ``results`` and ``/results``. What others have published is in ``benchmarks/published.yaml``.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from pathlib import Path
from typing import NamedTuple

import yaml
from drawing import drawing, line, text

ROOT = Path(__file__).parent.parent.parent
PICTURES = ROOT / "docs" / "images" / "results"
README = ROOT / "README.md"

COLOURS = {
    "Mamba4Rec": "#2a9d8f",
    "2Mamba4Rec": "#4c78c8",
    "SSD4Rec": "#e08a2b",
    "Hydra4Rec": "#b4589a",
    "LRURec": "#8a8f3c",
    "PackedSASRec": "#8d8d8d",
    "PCTM": "#c23b3b",
    "SeqRules": "#d98880",
    "MarkovChain": "#7b5b45",
    "MamRec": "#1f3a5f",
}


class Ranking(NamedTuple):
    """What is compared: a dataset, an order in time, a filter, and what README calls them.

    The order is "any" where the times of the dataset only count the items of a user.
    """

    dataset: str
    order: str
    filtered: str
    title: str

    def holds(self, row: dict) -> bool:
        """Whether a run or a published figure is of this dataset, in this order."""
        return row["dataset"] == self.dataset and self.order in ("any", row["time_order"])


RANKINGS = (
    Ranking("ml-1m", "exact", "filtered", "**MovieLens-1M**, exact order, filtered"),
    Ranking("ml-1m-original-order", "recbole", "unfiltered", "**MovieLens-1M**, RecBole's order"),
    Ranking("ml-100k", "recbole", "unfiltered", "**MovieLens-100K**, RecBole's order"),
    Ranking("amazon-beauty", "any", "filtered", "**Amazon Beauty**, filtered"),
    Ranking("amazon-toys", "any", "filtered", "**Amazon Toys**, filtered"),
    Ranking("amazon-video-games", "any", "filtered", "**Amazon Video Games**, filtered"),
    Ranking("kuairand-pure", "any", "unfiltered", "**KuaiRand-Pure**"),
)

ROWS = {
    "ml-1m": (
        "Mamba4Rec-ml-1m",
        "2Mamba4Rec-ml-1m",
        "Hydra4Rec-ml-1m",
        "SSD4Rec-ml-1m",
        "LRURec-ml-1m",
        "PackedSASRec-ml-1m",
        "Mamba4Rec-ml-1m-wide",
        "2Mamba4Rec-ml-1m-default",
        "2Mamba4Rec-ml-1m-final",
    ),
    "ml-1m-original-order": ("Mamba4Rec-ml-1m-original-order", "2Mamba4Rec-ml-1m-original-order"),
    "ml-100k": ("2Mamba4Rec-ml-100k-default",),
    "amazon-beauty": (
        "2Mamba4Rec-amazon-beauty-default",
        "SSD4Rec-amazon-beauty",
        "PCTM-amazon-beauty",
        "2Mamba4Rec-amazon-beauty-default-final",
        "PCTM-amazon-beauty-final",
    ),
    "amazon-toys": (
        "2Mamba4Rec-amazon-toys-default",
        "PCTM-amazon-toys",
        "2Mamba4Rec-amazon-toys-default-final",
        "PCTM-amazon-toys-final",
    ),
    "amazon-video-games": ("2Mamba4Rec-amazon-video-games-default", "SSD4Rec-amazon-video-games"),
    "kuairand-pure": ("Mamba4Rec-kuairand-pure", "2Mamba4Rec-kuairand-pure-default"),
}
"""The runs of README's table; those that were trained on the validation items, too, are the last ones."""

MOST_MINUTES = 50
"""Longer trainings are not drawn."""


class Point(NamedTuple):
    """A model in a drawing."""

    name: str
    run: dict
    minutes: float
    ndcg: float


def runs() -> dict[str, list[dict]]:
    """Runs of ``results/runs`` that test all users, under their names: those of the files, without the seed."""
    found: dict[str, list[dict]] = {}
    for file in sorted((ROOT / "results" / "runs").glob("*.json")):
        run = json.loads(file.read_text(encoding="utf-8"))
        if "eval_users" not in run["settings"] and all(found["test"] for found in run["metrics"].values()):
            found.setdefault(re.sub(r"-\d+$", "", file.stem), []).append(run)
    return found


def published() -> list[dict]:
    """What others have reported for leaving one out."""
    found = yaml.safe_load((ROOT / "benchmarks" / "published.yaml").read_text(encoding="utf-8"))
    return [row for row in found if "temporal" not in row.get("split", {})]


def of(ranking: Ranking) -> list[dict]:
    """What others have reported of it."""
    return [row for row in published() if ranking.holds(row) and row["filter"] == ranking.filtered]


def shown(row: dict) -> str:
    """The name of a published model, without its settings; with a star if it was trained on the validation items."""
    name = row["model"].removesuffix(", 3000 negatives").replace(", rerun", " rerun")
    return name + "*" * knows_validation(row)


def mean(same: list[dict], filtered: str, metric: str) -> float:
    """Mean of a test metric over seeds."""
    return statistics.mean(run["metrics"][filtered]["test"][metric] for run in same)


def minutes(same: list[dict]) -> float:
    """Training and validation up to the epoch that is tested, median over seeds, as ``results/README.md`` has it."""
    shares = [run.get("processor_share") or 1.0 for run in same]
    whole = [share if share < 0.9 else 1.0 for share in shares]
    return statistics.median(run["seconds_to_best"] * share for run, share in zip(same, whole, strict=True)) / 60


def short(value: float) -> str:
    """A metric as the tables have it: ``.1930``."""
    return f"{value:.4f}".removeprefix("0")


def points(ranking: Ranking) -> list[Point]:
    """The models that are drawn: those of COLOURS that count, and those with ``repeat_bias``."""
    found = []
    for name, same in runs().items():
        run = same[0]
        drawn = run["model"] in COLOURS and (run["repeat_bias"] or not run["parameters"])
        if ranking.holds(run) and "LS" in run.get("split", {"LS": ""}) and drawn:
            found.append(Point(name, run, minutes(same), mean(same, ranking.filtered, "ndcg@10")))
    return [point for point in found if point.minutes <= MOST_MINUTES]


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers around a range, evenly spaced."""
    for power in range(-4, 4):
        for factor in (1, 2, 5):
            step = factor * 10.0**power
            first, last = math.floor(low / step), math.ceil(high / step)
            if last - first < most:
                return [round(step * number, 6) for number in range(first, last + 1)]
    raise ValueError(f"no {most} numbers between {low} and {high}")


def picture(ranking: Ranking) -> str:
    """NDCG@10 over minutes, as SVG: points for models, lines for what is published."""
    wide, high, left, right, top, bottom = 800, 420, 62, 210, 94, 48
    found = points(ranking)
    theirs = [row for row in of(ranking) if row["NDCG@10"] >= 0.8 * min(point.ndcg for point in found)]
    values = [point.ndcg for point in found] + [row["NDCG@10"] for row in theirs]
    levels, times = ticks(min(values), max(values), 8), ticks(0, max(point.minutes for point in found), 8)

    def across(value: float) -> float:
        return left + value / times[-1] * (wide - left - right)

    def down(value: float) -> float:
        return top + (levels[-1] - value) / (levels[-1] - levels[0]) * (high - top - bottom)

    title = f"NDCG@10: {re.sub(r'[*]', '', ranking.title)}"
    shapes = [text(left, 26, title, "head"), *_legend(found, left)]
    shapes += [text(across(x), high - 26, f"{x:g}", "soft", "middle") for x in times]
    shapes.append(text(across(times[-1] / 2), high - 9, "minutes of training and validation", "soft", "middle"))
    for value in levels:
        shapes += [text(left - 10, down(value) + 4, f"{value:g}".removeprefix("0") or "0", "soft", "end")]
        shapes.append(line([(left, down(value)), (left + 5, down(value))]))
    shapes.append(line([(left, top), (left, high - bottom), (wide - right, high - bottom)]))
    lowest = 0.0
    for row in sorted(theirs, key=lambda row: -row["NDCG@10"]):
        y = down(row["NDCG@10"])
        lowest = max(y, lowest + 14)  # labels do not cover each other
        shapes.append(line([(left, y), (wide - right, y)], 'stroke-dasharray="5 4"'))
        shapes.append(text(wide - right + 8, lowest + 4, f"{shown(row)}, published", "soft"))
    shapes += [_mark(point, across(point.minutes), down(point.ndcg)) for point in found]
    return drawing(wide, high, title, shapes)


def _legend(found: list[Point], left: float) -> list[str]:
    """A dot and a name for each model that is drawn, in one row or two."""
    shapes, x, y = [], left, 48
    for model in COLOURS:
        if any(point.run["model"] == model for point in found):
            if x + 15 + 8 * len(model) > 800:
                x, y = left, 68
            shapes += [
                f'<circle cx="{x + 5:g}" cy="{y}" r="5" fill="{COLOURS[model]}"/>',
                text(x + 15, y + 4, model, "soft"),
            ]
            x += 30 + 8 * len(model)
    return shapes


def _mark(point: Point, x: float, y: float) -> str:
    """Large: width 128. Ring: with a teacher. Square: trained on the validation items, too. Rim: with a memory."""
    settings, colour = point.run["settings"], COLOURS[point.run["model"]]
    r = 8 if settings.get("hidden_size") == 128 else 5
    fill = f'fill="{colour}"'
    if "teacher" in settings:
        fill = f'fill="none" stroke="{colour}" stroke-width="2.5"'
    elif settings.get("transition_memory") or point.run.get("from_data", {}).get("transition_memory"):
        fill += ' stroke="#d4a017" stroke-width="2.5"'
    if knows_validation(point.run):
        shape = f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}"'
    else:
        shape = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}"'
    tag = shape.partition(" ")[0].removeprefix("<")
    return f"{shape} {fill}><title>{point.name} {short(point.ndcg)}</title></{tag}>"


def knows_validation(row: dict) -> bool:
    """Whether the model of a run, or of a published figure, was trained on the validation items."""
    return row.get("split", {}).get("LS") == "test_only"


def best_published(ranking: Ranking, knowing: bool) -> str:
    """The best published NDCG@10, with the name of its model, which was trained on the validation items or was not."""
    same = [row for row in of(ranking) if knows_validation(row) == knowing]
    if not same:
        return "–"
    best = max(same, key=lambda row: row["NDCG@10"])
    return f"{short(best['NDCG@10'])} {shown(best)}".replace("*", "\\*")


def called(name: str, run: dict) -> str:
    """How a user names the settings of a run, with a star if the validation items were trained on, too."""
    if knows_validation(run):
        name = name.removesuffix("-final")
        return called(name, {**run, "split": {}}) + "\\*"
    for folder in ("wide", "memory"):
        if name.endswith(f"-{folder}") and (ROOT / "properties" / folder).is_dir():
            return f"`{folder}/{name.removesuffix(f'-{folder}')}`"
    if run["settings"].get("defaults") == "data":
        return f"{run['model']}, default settings"
    return f"`recipe/{name}`"


def table() -> str:
    """The table of README: which recipe, what it costs, what it reaches."""
    lines = [
        "| data | recipe | minutes | GiB | HR@10 | NDCG@10 | best published |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    found = runs()
    for ranking in RANKINGS:
        beside: set[bool] = set()
        for name in ROWS[ranking.dataset]:
            same = found[name]
            knowing = knows_validation(same[0])
            first = "" if beside else ranking.title
            last = "" if knowing in beside else best_published(ranking, knowing)
            beside.add(knowing)
            gib = statistics.median(run["peak_memory_gib"] for run in same)
            numbers = [short(mean(same, ranking.filtered, metric)) for metric in ("hit@10", "ndcg@10")]
            time = f"{minutes(same):.0f}" if minutes(same) >= 1 else "< 1"
            lines.append(f"| {' | '.join([first, called(name, same[0]), time, f'{gib:.1f}', *numbers, last])} |")
    return "\n".join(lines)


def readme(now: str) -> str:
    """README with the table as it is today."""
    return re.sub(r"(?<=<!-- results -->\n).*?(?=\n<!-- /results -->)", lambda _: table(), now, flags=re.DOTALL)


def pictures() -> dict[Path, str]:
    """The drawings, and where they lie."""
    return {PICTURES / f"{ranking.dataset}.svg": picture(ranking) for ranking in RANKINGS}


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for file, drawn in pictures().items():
        file.write_text(drawn, encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(PICTURES, README)
