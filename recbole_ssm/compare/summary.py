"""From the runs of a comparison to one row for each model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, median, stdev

import numpy as np

from recbole_ssm.compare.measuring import AT, METRICS
from recbole_ssm.compare.significance import holm, permutation_p
from recbole_ssm.compare.study import Study
from recbole_ssm.errors import InputError


@dataclass
class Row:
    """A variant: its runs, and what they come to."""

    name: str
    runs: list[dict]
    samples: dict[str, np.ndarray]
    """Of each test sample, the mean over seeds."""
    p_values: dict[str, float] = field(default_factory=dict)
    """Of each metric against the baseline's, Holm-corrected; none for the baseline."""

    def scores(self, metric: str) -> list[float]:
        """A metric of each run, by RecBole's evaluator."""
        return [run["test_result"][f"{metric}@{AT}"] for run in self.runs]

    @property
    def validated(self) -> bool:
        """Whether its runs were validated: they are where there is validation data."""
        return all(any("valid_result" in epoch for epoch in run["history"]) for run in self.runs)

    def middle(self, value: Callable[[dict], float | None]) -> float | None:
        """The median over runs of what ``value`` makes of a run; None where a run has none."""
        values = [value(run) for run in self.runs]
        return None if any(each is None for each in values) else median(values)


def summarise(study: Study, baseline: str) -> list[Row]:
    """A row for each variant of a comparison that has a run that is done, as the baseline must.

    Raises:
        InputError: models were tested on different samples.
    """
    rows = []
    for name in (variant.name for variant in study.variants):
        seeds = [seed for seed in study.seeds if study.result(name, seed) is not None]
        if seeds:
            rows.append(Row(name, [study.result(name, seed) for seed in seeds], _mean_samples(study, name, seeds)))
    reference = next(row for row in rows if row.name == baseline)
    others = [row for row in rows if row is not reference]
    for row in others:
        if not np.array_equal(row.samples["user"], reference.samples["user"]) or _differ(row, reference):
            raise InputError(f"{row.name} and {baseline} were not tested on the same items, and cannot be compared")
    for metric in METRICS:
        p_values = holm(permutation_p(row.samples[metric] - reference.samples[metric]) for row in others)
        for row, p_value in zip(others, p_values, strict=True):
            row.p_values[metric] = p_value
    return rows


def _differ(row: Row, other: Row) -> bool:
    """Whether both say their targets, and these are not the same."""
    one, two = row.samples["item"], other.samples["item"]
    return bool(((one != two) & (one != "") & (two != "")).any())


def _mean_samples(study: Study, name: str, seeds: list[int]) -> dict[str, np.ndarray]:
    """Samples by user, their metrics the mean over seeds."""
    found = []
    for seed in seeds:
        samples = study.samples(name, seed)
        order = np.argsort(samples["user"], kind="stable")
        found.append({name: values[order] for name, values in samples.items()})
    return {**found[0], **{metric: np.mean([each[metric] for each in found], axis=0) for metric in METRICS}}


def spread(values: list[float], digits: int = 4) -> str:
    """Mean and, of several, standard deviation: ``.1234 ± .0056``."""

    def short(value: float) -> str:
        return f"{value:.{digits}f}".removeprefix("0")

    return short(mean(values)) + (f" ± {short(stdev(values))}" if len(values) > 1 else "")
