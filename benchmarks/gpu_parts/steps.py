"""What a training step waits for: synchronisations, launches, idle time of the GPU; and whether it repeats itself."""

from __future__ import annotations

import math
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from gpu_parts import ROOT
from gpu_parts.place import Place, Skipped
from gpu_parts.tables import number, reasons, table
from gpu_parts.training import SMALL, put_together, train, wait
from recbole_ssm.training.assembly import Assembly, computing

STEPS = 20


def measure(place: Place) -> None:
    """Of the recipe of 2Mamba4Rec for MovieLens-1M, or where that is missing for MovieLens-100K."""
    try:
        dataset, keys = place.dataset("ml-1m")
        recipe = "recipe/2Mamba4Rec-ml-1m"
    except Skipped:
        dataset, keys = place.dataset("ml-100k")
        recipe = "recipe/2Mamba4Rec-ml-100k"
    keys |= SMALL if place.tiny else {}

    def new(**more: Any) -> Assembly:
        return put_together(place, "2Mamba4Rec", dataset, [recipe], keys | more)

    assembly = new()
    with computing(assembly.config):
        train(assembly, 2 if place.tiny else STEPS)
        for look in (_speed, _synchronisations, _profile):
            place.attempt(look.__name__.removeprefix("_"), look, place, assembly)
        del assembly
        place.attempt("graphs", _graphs, place, new)
        place.attempt("determinism", _determinism, place, new)
        place.attempt("amp", _amp, place, new)


def _steps(place: Place) -> int:
    return 3 if place.tiny else STEPS


def _speed(place: Place, assembly: Assembly) -> dict[str, float]:
    """Seconds of a step with nothing watching."""
    steps = 3 if place.tiny else 200
    return {"seconds_per_step": train(assembly, steps) / min(steps, len(assembly.loaders.train))}


def _synchronisations(place: Place, assembly: Assembly) -> dict[str, Any]:
    """Where the host waits for the GPU, and how often per step."""
    place.needs_gpu()
    places: Counter[str] = Counter()

    def note(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        if "synchroniz" in str(message):
            places[_caller()] += 1

    steps = _steps(place)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train(assembly, steps)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return {"per_step": sum(places.values()) / steps, "places": dict(places.most_common(15)), "steps": steps}


def _caller() -> str:
    """The innermost line of this package or of RecBole that is being run."""
    frames = [frame for frame in reversed(traceback.extract_stack()) if "gpu_parts" not in frame.filename]
    known = [frame for frame in frames if "/recbole_ssm/" in frame.filename or "/recbole/" in frame.filename]
    frame = (known or frames)[0]
    file = Path(frame.filename)
    shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else Path(*file.parts[-3:])
    return f"{shown}:{frame.lineno} {(frame.line or '').strip()[:60]}"


def _profile(place: Place, assembly: Assembly) -> dict[str, float]:
    """Launches and copies per step, and the share of time in which the GPU had nothing to do."""
    place.needs_gpu()
    from torch.profiler import ProfilerActivity, profile

    steps = _steps(place)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        train(assembly, steps)
        wait(place.device)
    busy, calls, kernels = [], Counter(), Counter()
    for event in profiler.profiler.kineto_results.events():
        name, start, length = event.name(), event.start_ns(), event.duration_ns()
        if event.device_type().name == "CUDA":
            busy.append((start, start + length))
            kernels[name.split("<")[0][:60]] += length
        elif "Launch" in name or "Memcpy" in name or "Synchronize" in name:
            calls[name] += 1
    if not busy:
        raise Skipped("the profiler has seen no kernel")
    span = max(end for _, end in busy) - min(start for start, _ in busy)
    work = _covered(busy)
    return {
        "launches_per_step": sum(n for name, n in calls.items() if "Launch" in name) / steps,
        "copies_per_step": sum(n for name, n in calls.items() if "Memcpy" in name) / steps,
        "waits_per_step": sum(n for name, n in calls.items() if "Synchronize" in name) / steps,
        "idle_share": 1 - work / span,
        "busy_ms_per_step": work / steps / 1e6,
        "kernels_ms_per_step": {name: each / steps / 1e6 for name, each in kernels.most_common(12)},
    }


def _covered(spans: list[tuple[int, int]]) -> int:
    """How much of time some spans cover together."""
    total, until = 0, 0
    for start, end in sorted(spans):
        total += max(end - max(start, until), 0)
        until = max(until, end)
    return total


def _graphs(place: Place, new: Any) -> dict[str, Any]:
    """Speed and idle time with ``cuda_graph``, once every shape has been recorded."""
    assembly = new(cuda_graph=True)
    train(assembly, 3 if place.tiny else 300)
    found = _speed(place, assembly)
    return found | {"profile": place.tried(_profile, place, assembly)}


def _determinism(place: Place, new: Any) -> dict[str, Any]:
    """Two trainings with the same seed: losses, and weights to the last bit."""
    losses, weights = [], []
    for _ in range(2):
        assembly = new()
        train(assembly, _steps(place))
        losses.append(assembly.trainer.history[-1]["train_loss"])
        weights.append([value.detach().clone() for value in assembly.trainer.model.parameters()])
    return {
        "same_loss": losses[0] == losses[1],
        "same_weights": all(torch.equal(one, other) for one, other in zip(*weights, strict=True)),
        "losses": losses,
    }


def _amp(place: Place, new: Any) -> dict[str, Any]:
    """``enable_amp``: its loss beside float32's after the same steps, and its speed."""
    place.needs_gpu()
    found = {}
    for name, keys in {"float32": {}, "amp": {"enable_amp": True, "enable_scaler": True}}.items():
        assembly = new(**keys)
        train(assembly, _steps(place))
        loss = assembly.trainer.history[-1]["train_loss"]
        if not math.isfinite(loss):
            raise ArithmeticError(f"{name}: the loss is {loss}")
        found[name] = {"loss": loss, "seconds_per_step": train(assembly, _steps(place)) / _steps(place)}
    return found


def lines(result: dict) -> list[str]:
    """One line for each thing, and the places that wait."""
    rows = []
    if "seconds_per_step" in (part := result.get("speed", {})):
        rows.append(["milliseconds of a step", number(1e3 * part["seconds_per_step"], ".2f")])
    if "per_step" in (part := result.get("synchronisations", {})):
        rows.append(["synchronisations of a step", number(part["per_step"], ".1f")])
        rows += [[f"... `{where}`", number(n / part["steps"], ".1f")] for where, n in part["places"].items()]
    if "idle_share" in (part := result.get("profile", {})):
        rows.append(["launches of a step", number(part["launches_per_step"], ".0f")])
        rows.append(["copies of a step", number(part["copies_per_step"], ".1f")])
        rows.append(["share of time in which the GPU is idle", number(part["idle_share"], ".0%")])
    if "seconds_per_step" in (part := result.get("graphs", {})):
        rows.append(["milliseconds of a step, CUDA graphs", number(1e3 * part["seconds_per_step"], ".2f")])
        if "idle_share" in part["profile"]:
            rows.append(["... share of time in which the GPU is idle", number(part["profile"]["idle_share"], ".0%")])
    if "same_loss" in (part := result.get("determinism", {})):
        rows.append(["the same seed gives the same loss and weights", f"{part['same_loss']}, {part['same_weights']}"])
    if "amp" in (part := result.get("amp", {})):
        for name in ("float32", "amp"):
            words = f"{part[name]['loss']:.4f}, {1e3 * part[name]['seconds_per_step']:.2f} ms"
            rows.append([f"loss and step, {name}", words])
    return [*table(["training steps", ""], rows), *reasons(result)]
