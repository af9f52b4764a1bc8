"""From the runs of a comparison to one row for each model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, median, stdev

import numpy as np

from recbole_ssm.errors import InputError
from recbole_ssm.studies.compare.measuring import AT, METRICS
from recbole_ssm.studies.compare.record import Record
from recbole_ssm.studies.compare.significance import holm, permutation_p
from recbole_ssm.studies.compare.study import Study


@dataclass
class Row:
    """A variant, its runs, and its metrics."""

    name: str
    runs: list[Record]
    """The record of each run; ``test_result`` is the mean over samples, not rounded as in RecBole."""
    samples: dict[int, dict[str, np.ndarray]]
    """By seed :func:`recbole_ssm.studies.compare.measuring.by_sample`, in the order of users and items."""
    p_values: dict[str, float] = field(default_factory=dict)
    """Of each metric against the baseline's, Holm-corrected; none for the baseline."""

    def scores(self, metric: str) -> list[float]:
        """A metric of each run, not rounded."""
        return [run["test_result"][f"{metric}@{AT}"] for run in self.runs]

    @property
    def validated(self) -> bool:
        """Whether all runs were validated."""
        return all(any("valid_result" in epoch for epoch in run["history"]) for run in self.runs)

    def middle(self, value: Callable[[Record], float | None]) -> float | None:
        """The median of ``value`` over runs; None if it is None for a run."""
        values = [each for each in map(value, self.runs) if each is not None]
        return median(values) if len(values) == len(self.runs) else None


def summarise(study: Study, baseline: str) -> list[Row]:
    """Summarise the runs of a comparison, and test each variant against the baseline.

    Args:
        study: the comparison.
        baseline: name of a variant that has a run that is done.

    Returns:
        A row for each variant that has a run that is done.

    Raises:
        InputError: models were tested on different samples.
    """
    rows = []
    for name in (variant.name for variant in study.variants):
        all_results = {seed: study.result(name, seed) for seed in study.seeds}
        results = {seed: result for seed, result in all_results.items() if result is not None}
        samples = {seed: _in_order(study.samples(name, seed)) for seed in results}
        if samples:
            rows.append(Row(name, [_unrounded(results[seed], found) for seed, found in samples.items()], samples))
    reference = next(row for row in rows if row.name == baseline)
    others = [row for row in rows if row is not reference]
    for row in others:
        if any(_differ(row.samples[seed], reference.samples[seed]) for seed in row.samples.keys() & reference.samples):
            raise InputError(f"{row.name} and {baseline} were not tested on the same items, and cannot be compared")
    for metric in METRICS:
        p_values = holm(permutation_p(_differences(row, reference, metric)) for row in others)
        for row, p_value in zip(others, p_values, strict=True):
            row.p_values[metric] = p_value
    return rows


def _in_order(samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = np.lexsort((samples["item"], samples["user"]))
    return {name: values[order] for name, values in samples.items()}


def _unrounded(result: Record, samples: dict[str, np.ndarray]) -> Record:
    return result | {"test_result": {f"{metric}@{AT}": float(samples[metric].mean()) for metric in METRICS}}


def _differ(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Whether two runs were tested on different users, or on different targets where both have them."""
    if not np.array_equal(one["user"], other["user"]):
        return True
    items = one["item"], other["item"]
    return bool(((items[0] != items[1]) & (items[0] != "") & (items[1] != "")).any())


def _differences(row: Row, reference: Row, metric: str) -> np.ndarray:
    """The difference of a metric for each user (U,), summed over samples and common seeds.

    Users are independent of one another. Where a split draws other test items with each seed, a user may have
    some with a few of the seeds only.
    """
    seeds = [seed for seed in row.samples if seed in reference.samples]
    if not seeds:
        return np.zeros(0)
    users = np.concatenate([row.samples[seed]["user"] for seed in seeds])
    differences = [row.samples[seed][metric] - reference.samples[seed][metric] for seed in seeds]
    return np.bincount(np.unique(users, return_inverse=True)[1], np.concatenate(differences))


def spread(values: list[float], digits: int = 4) -> str:
    """Mean and, of several, standard deviation: ``.1234 ± .0056``."""

    def short(value: float) -> str:
        return f"{value:.{digits}f}".removeprefix("0")

    return short(mean(values)) + (f" ± {short(stdev(values))}" if len(values) > 1 else "")
