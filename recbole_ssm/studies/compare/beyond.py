"""Metrics beyond accuracy: how much of the catalogue is recommended, and how well known it is.

All but novelty are RecBole's. They are of the ten items that are recommended to each test sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from recbole.evaluator.register import metric_information

from recbole_ssm.errors import InputError, did_you_mean

DEFAULT = ("ItemCoverage", "GiniIndex", "AveragePopularity", "Novelty")
"""What is measured where nothing else is asked for."""

LEGENDS = {
    "itemcoverage": ("coverage", "share of all items that are recommended to somebody"),
    "giniindex": ("Gini", "inequality of items: 0 all are recommended equally often, 1 always the same"),
    "averagepopularity": ("popularity", "mean number of training interactions of what is recommended"),
    "novelty": ("novelty", "mean of -log2 of the share that a recommended item has of the training interactions"),
    "shannonentropy": ("entropy", "RecBole's ShannonEntropy"),
    "tailpercentage": ("tail", "share of recommendations that are among the least popular items (tail_ratio)"),
}
"""Head of a column, and what it says, by a metric's name in small letters."""

_BY_THESE = ("rec.items", "data.num_items", "data.count_items")


def check_names(names: Sequence[str]) -> None:
    """Raise InputError unless each name is of a metric of what is recommended, whatever the targets are."""
    known = {name for name, needs in metric_information.items() if set(needs) <= set(_BY_THESE)} | {"novelty"}
    for name in names:
        if name.lower() not in known:
            hint = did_you_mean(name.lower(), known) or f"; there are {', '.join(sorted(known))}"
            raise InputError(f"--metrics adds metrics beyond accuracy, and {name!r} is not one{hint}")


def to_evaluate(names: Sequence[str]) -> list[str]:
    """The metrics of RecBole that collect what metrics of these names need."""
    found = [name for name in names if name.lower() != "novelty"]
    return found if len(found) == len(names) else list(dict.fromkeys([*found, "AveragePopularity"]))


def training_popularity(dataset: Any) -> np.ndarray:
    """How often each item occurs in the training histories of two items or more.

    RecBole counts the samples, and so for a sequential model leaves out each user's first item. This is the same for
    models of all kinds. Of pre-split files it is how often each item is the target of a line, since lines repeat one
    another's histories.

    Args:
        dataset: the training split.

    Returns:
        (n_items,) int64.
    """
    if dataset.config.benchmark_filename is not None:
        return np.bincount(dataset.inter_feat[dataset.iid_field].numpy(), minlength=dataset.item_num)
    matrix = dataset.inter_matrix(form="coo")
    several = np.bincount(matrix.row, minlength=dataset.user_num)[matrix.row] > 1
    return np.bincount(matrix.col[several], minlength=dataset.item_num)


def novelty(items: np.ndarray, popularity: np.ndarray) -> float:
    """Mean self-information of recommended items (Castells et al., "Novelty and Diversity in Recommender Systems").

    Args:
        items: (rows, k) the recommended items.
        popularity: (n_items,) of all items; 0 counts as 1.

    Returns:
        The mean of ``-log2(popularity / sum of popularity)``.
    """
    return float(-np.log2(np.maximum(popularity[items], 1) / popularity.sum()).mean())
