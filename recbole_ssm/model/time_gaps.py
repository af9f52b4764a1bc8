"""Times that models may read: the key, the column, and how the scale of gaps is found."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.layers import TimeGaps
from recbole_ssm.model.declarations import Column, Configuration, Key

TIME_GAPS = Key("time_gaps", bool, "the time before each item scales the step of the recurrence", False)
TIME = Column("time", "TIME_FIELD", when=TIME_GAPS.name)
"""When each interaction was, (T,) float64, where ``time_gaps`` is True."""


def check_time_gaps(config: Configuration) -> None:
    """Raise InputError where histories are not in order of time, so that gaps between their items mean nothing."""
    if TIME.is_read(config) and config["time_order"] == "recbole":
        raise InputError(
            "time_gaps needs histories in order of time, and time_order: recbole rounds the times; set it to exact"
        )


def n_gap_features(config: Configuration) -> int:
    """How many numbers of each gap the mixers of a model read; 0 without ``time_gaps``."""
    return TimeGaps.n_features if TIME.is_read(config) else 0


def make_time_gaps(model: Any, config: Configuration, dataset: Any) -> TimeGaps | None:
    """What makes gaps of the times.

    The scale is the median of all gaps above 0 before the targets of the training split; 1 where there are no data.

    Args:
        model: that will read them.
        config: the configuration.
        dataset: the training split, or a :class:`recbole_ssm.model.catalogue.Catalogue`.

    Returns:
        The layer; None without ``time_gaps``, or for a model without that key.

    Raises:
        InputError: the model has other columns, or no time of the data says anything.
    """
    if not TIME.is_read(config) or TIME_GAPS not in model.keys:
        return None
    if TIME not in model.columns:
        name = type(model).__name__
        raise InputError(f"time_gaps: {name} does not read times; give {name}.columns those of the model it extends")
    if not hasattr(dataset, "steps_of_column"):
        return TimeGaps()
    gaps: Tensor = dataset.steps_of_column(model.field_of(TIME)).clamp(min=0)
    if not len(gaps) or gaps.min() == gaps.max():
        raise InputError(
            f"time_gaps: {TIME.field(config)} has the same distance between all items, so that it says nothing beside "
            "their order; give the file real times, or set time_gaps to False"
        )
    return TimeGaps(float(gaps[gaps > 0].median()))
