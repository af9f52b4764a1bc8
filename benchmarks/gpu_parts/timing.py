"""Fair timings on a GPU: alternating, CUDA's own events, medians of rounds that take long enough to be measured."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import torch

from gpu_parts.place import Place, Skipped, in_one_line
from recbole_ssm.system.resources import added_memory_mib

Variants = dict[str, Callable[[], object]]

WARM_UPS, AT_LEAST = 3, 0.02
"""Calls before any is measured, and seconds that a round should take."""

AT_LEAST_LEFT = 5.0
"""Seconds: with less, no other variant is warmed up, and no other round is begun."""


def compare(place: Place, variants: Variants, first: str, *, rounds: int = 7) -> dict[str, dict]:
    """Times of code that does the same work.

    Args:
        place: where it computes.
        variants: functions by name.
        first: the one whose time the others are divided by.
        rounds: in which all take turns.

    Returns:
        For each variant the median seconds of a call, the memory in GiB that a call adds, and ``times_as_long``, the
        median over rounds of its time over that of ``first``; or why it could not run.
    """
    found: dict[str, dict] = {}
    calls: dict[str, int] = {}
    for name, run in variants.items():
        try:
            if place.left() < AT_LEAST_LEFT:
                raise Skipped("no time was left")
            calls[name] = _warmed_up(place, run)
            memory = added_memory_mib(run, place.device)
            found[name] = {"gib": None if memory is None else memory / 1024}
        except Skipped as why:
            found[name] = {"skipped": str(why)}
        except Exception as error:
            found[name] = {"failed": in_one_line(error)}
            gc.collect()
    seconds: dict[str, list[float]] = {name: [] for name in calls if name in found and "gib" in found[name]}
    for number in range(1 if place.tiny else rounds):
        if number and place.left() < AT_LEAST_LEFT:
            break
        for name in seconds:
            seconds[name].append(seconds_of(place, variants[name], calls[name]))
    for name, each in seconds.items():
        found[name]["seconds"] = statistics.median(each)
        if first in seconds:
            found[name]["times_as_long"] = statistics.median(a / b for a, b in zip(each, seconds[first], strict=True))
    return found


def _warmed_up(place: Place, run: Callable[[], object]) -> int:
    """Call a function until all is compiled; how many calls make a round."""
    for _ in range(1 if place.tiny else WARM_UPS):
        run()
    return 1 if place.tiny else min(max(int(AT_LEAST / max(seconds_of(place, run, 1), 1e-6)), 1), 50)


def seconds_of(place: Place, run: Callable[[], object], calls: int) -> float:
    """Mean seconds of so many calls, one after another."""
    if not place.on_gpu:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def percentiles(place: Place, run: Callable[[], object], calls: int) -> dict[str, float]:
    """Microseconds of single calls on the wall, each until its result is there: the median and the 95th percentile."""
    each = []
    for number in range(calls + 5):
        start = time.perf_counter()
        run()
        if place.on_gpu:
            torch.cuda.synchronize()
        if number >= 5:
            each.append(1e6 * (time.perf_counter() - start))
    each.sort()
    return {"median": statistics.median(each), "p95": each[int(0.95 * (len(each) - 1))]}
