"""Is one model better than another? Paired tests over the same users."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import stats


def permutation_p(difference: np.ndarray, resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of a mean difference of pairs, by random flips of their signs (scipy's permutation test).

    Args:
        difference: (N,) one model's metric less the other's, of each user.
        resamples: how many flips; the least p-value is 2 / (resamples + 1).
        seed: of the flips.

    Returns:
        The p-value; 1 where there is nothing to compare.
    """
    if len(difference) < 2 or not np.any(difference):
        return 1.0
    found = stats.permutation_test(
        (difference,),
        lambda values, axis: values.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(difference)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's correction: p-values that hold for all comparisons together, in the order in which they are given."""
    p_values = list(p_values)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def stars(p_value: float) -> str:
    """``*`` below .05, ``**`` below .01, ``***`` below .001."""
    return "*" * sum(p_value < limit for limit in (0.05, 0.01, 0.001))
