"""Draws the results and writes README's table, from ``results/runs``: ``python docs/make/results_picture.py``.

Writes ``docs/images/ml-1m.svg`` (accuracy over training time) and, in ``README.md``, the lines between the comments
``results`` and ``/results``. What others have published is in ``benchmarks/published.yaml``.
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

import yaml
from drawing import drawing, line, text

ROOT = Path(__file__).parent.parent.parent
TARGET = ROOT / "docs" / "images" / "ml-1m.svg"
README = ROOT / "README.md"

COLOURS = {
    "Mamba4Rec": "#2a9d8f",
    "2Mamba4Rec": "#4c78c8",
    "SSD4Rec": "#e08a2b",
    "Hydra4Rec": "#b4589a",
    "LRURec": "#8a8f3c",
    "PackedSASRec": "#8d8d8d",
}

TABLE = (
    ("ml-1m", "exact", "filtered", "**MovieLens-1M**, exact order, filtered"),
    ("ml-1m-original-order", "recbole", "unfiltered", "**MovieLens-1M**, RecBole's order"),
    ("amazon-beauty", "recbole", "filtered", "**Amazon Beauty**, filtered"),
    ("amazon-video-games", "recbole", "filtered", "**Amazon Video Games**, filtered"),
    ("kuairand-pure", "recbole", "unfiltered", "**KuaiRand-Pure**"),
)
"""Dataset, order in time, filter, and what README calls them."""

ROWS = {
    "ml-1m": (
        "Mamba4Rec-ml-1m",
        "2Mamba4Rec-ml-1m",
        "Hydra4Rec-ml-1m",
        "SSD4Rec-ml-1m",
        "LRURec-ml-1m",
        "PackedSASRec-ml-1m",
        "Mamba4Rec-ml-1m-wide",
    ),
    "ml-1m-original-order": ("Mamba4Rec-ml-1m-original-order", "2Mamba4Rec-ml-1m-original-order"),
    "amazon-beauty": ("SSD4Rec-amazon-beauty", "Mamba4Rec-amazon-beauty", "PCTM-amazon-beauty"),
    "amazon-video-games": ("SSD4Rec-amazon-video-games",),
    "kuairand-pure": ("Mamba4Rec-kuairand-pure",),
}
"""The runs of README's table."""


def runs() -> dict[str, list[dict]]:
    """All runs of ``results/runs`` that have a test, under their names: those of the files, without the seed."""
    found: dict[str, list[dict]] = {}
    for file in sorted((ROOT / "results" / "runs").glob("*.json")):
        run = json.loads(file.read_text(encoding="utf-8"))
        if run["metrics"]["filtered"]["test"] is not None:
            found.setdefault(re.sub(r"-\d+$", "", file.stem), []).append(run)
    return found


def published() -> list[dict]:
    """What others have reported."""
    return yaml.safe_load((ROOT / "benchmarks" / "published.yaml").read_text(encoding="utf-8"))


def shown(row: dict) -> str:
    """The name of a published model, without its settings."""
    return row["model"].removesuffix(", 3000 negatives").replace(", rerun", " rerun")


def mean(same: list[dict], filtered: str, metric: str) -> float:
    """Mean of a test metric over seeds."""
    return statistics.mean(run["metrics"][filtered]["test"][metric] for run in same)


def minutes(same: list[dict]) -> float:
    """Training and validation up to the epoch that is tested, median over seeds."""
    return statistics.median(run["seconds_to_best"] for run in same) / 60


def short(value: float) -> str:
    """A metric as the tables have it: ``.1930``."""
    return f"{value:.4f}".removeprefix("0")


def picture() -> str:
    """NDCG@10 over minutes on ml-1m, as SVG."""
    wide, high, left, right, top, bottom = 800, 400, 62, 210, 44, 48
    most, low, highest = 50, 0.18, 0.236

    def across(value: float) -> float:
        return left + value / most * (wide - left - right)

    def down(value: float) -> float:
        return top + (highest - value) / (highest - low) * (high - top - bottom)

    shapes = [text(left, 26, "NDCG@10 on MovieLens-1M (exact order, seen items filtered)", "head")]
    shapes += [text(across(x), high - 26, str(x), "soft", "middle") for x in range(0, most + 1, 10)]
    shapes.append(
        text(across(most / 2), high - 9, "minutes of training and validation, one CPU core", "soft", "middle")
    )
    for value in (0.18, 0.19, 0.2, 0.21, 0.22, 0.23):
        shapes += [text(left - 10, down(value) + 4, short(value)[:3], "soft", "end")]
        shapes.append(line([(left, down(value)), (left + 5, down(value))]))
    shapes.append(line([(left, top), (left, high - bottom), (wide - right, high - bottom)]))
    for row in published():
        if (row["dataset"], row["filter"]) == ("ml-1m", "filtered") and low < row["NDCG@10"] < highest:
            y = down(row["NDCG@10"])
            star = "*" if row.get("split") else ""
            shapes.append(line([(left, y), (wide - right, y)], 'stroke-dasharray="5 4"'))
            shapes.append(text(wide - right + 8, y + 4, f"{shown(row)}{star}, published", "soft"))
    for name, same in runs().items():
        run = same[0]
        if (run["dataset"], run["time_order"]) != ("ml-1m", "exact") or run.get("split", {}).get("LS") == "test_only":
            continue
        if not run["repeat_bias"] or minutes(same) > most:
            continue
        point = f'cx="{across(minutes(same)):.1f}" cy="{down(mean(same, "filtered", "ndcg@10")):.1f}"'
        colour = COLOURS[run["model"]]
        radius = 8 if run["settings"]["hidden_size"] == 128 else 5
        fill = (
            f'fill="none" stroke="{colour}" stroke-width="2.5"' if "teacher" in run["settings"] else f'fill="{colour}"'
        )
        shapes.append(f'<circle {point} r="{radius}" {fill}><title>{name}</title></circle>')
    x, y = across(36), down(0.2125)
    for number, (model, colour) in enumerate(COLOURS.items()):
        shapes.append(f'<circle cx="{x}" cy="{y + 20 * number}" r="5" fill="{colour}"/>')
        shapes.append(text(x + 14, y + 20 * number + 4, model))
    return drawing(wide, high, "NDCG@10 over training time on MovieLens-1M", shapes)


def best_published(dataset: str, order: str, filtered: str) -> str:
    """The best published NDCG@10 of a protocol, with the name of its model."""
    same = [
        row for row in published() if (row["dataset"], row["time_order"], row["filter"]) == (dataset, order, filtered)
    ]
    if not same:
        return "–"
    best = max(same, key=lambda row: row["NDCG@10"])
    return f"{short(best['NDCG@10'])} {shown(best)}" + ("\\*" if best.get("split") else "")


def table() -> str:
    """The table of README: which recipe, what it costs, what it reaches."""
    lines = [
        "| data | recipe | minutes | GiB | HR@10 | NDCG@10 | best published |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    found = runs()
    for dataset, order, filtered, title in TABLE:
        for number, name in enumerate(ROWS[dataset]):
            first, last = ("", "") if number else (title, best_published(dataset, order, filtered))
            same = found[name]
            recipe = f"`wide/{name.removesuffix('-wide')}`" if name.endswith("-wide") else f"`recipe/{name}`"
            gib = statistics.median(run["peak_memory_gib"] for run in same)
            numbers = [short(mean(same, filtered, metric)) for metric in ("hit@10", "ndcg@10")]
            time = f"{minutes(same):.0f}" if minutes(same) >= 1 else "< 1"
            lines.append(f"| {' | '.join([first, recipe, time, f'{gib:.1f}', *numbers, last])} |")
    return "\n".join(lines)


def readme(now: str) -> str:
    """README with the table as it is today."""
    return re.sub(r"(?<=<!-- results -->\n).*?(?=\n<!-- /results -->)", lambda _: table(), now, flags=re.DOTALL)


if __name__ == "__main__":
    TARGET.write_text(picture(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
    print(TARGET, README)
