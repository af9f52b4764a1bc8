"""What a run of a comparison gave, as ``runs/NAME.result.json`` keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast


class Times(TypedDict):
    """How long recommendations take."""

    tries: int
    median_ms: float
    p99_ms: float


class Latency(Times, total=False):
    """The same of histories that are read anew; see :func:`recbole_ssm.studies.compare.measuring.latency`."""

    users: int
    mean_history: float | None


class Record(TypedDict):
    """What a run of a comparison gave."""

    asked: dict[str, Any]
    """What it was asked for: ``model``, ``dataset``, ``files``, ``keys``, ``settings`` and ``data``."""
    test_result: dict[str, float]
    beyond: dict[str, float]
    """Metrics beyond accuracy, by their names in small letters."""
    split: str | None
    time_order: str
    filter_seen: bool
    rule_of_seen: str
    repeated_targets: float | None
    """The share of test targets that their users have had before."""
    seed: int
    epochs: int
    best_epoch: int
    history: list[dict[str, Any]]
    """See :class:`recbole_ssm.training.trainer.HookedTrainer`."""
    seconds_per_epoch: float
    seconds_to_best: float
    parameters: int
    parameters_without_item_embedding: int
    peak_memory_gib: float
    latency_one: Latency | None
    latency_many: Latency | None
    latency_step: Latency | None
    """None for a model that keeps no state."""
    versions: dict[str, str]
    machine: dict[str, Any]
    """``processor``, ``threads`` and ``device``."""


def as_record(content: Mapping[str, Any]) -> Record:
    """The record that a file has, with what earlier versions did not keep."""
    nothing = dict.fromkeys(("split", "repeated_targets", "latency_many", "latency_step"))
    rule = f"filter_seen {content.get('filter_seen')}"
    return cast("Record", {**nothing, "beyond": {}, "rule_of_seen": rule, **content})
