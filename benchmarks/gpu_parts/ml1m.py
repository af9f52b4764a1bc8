"""MovieLens-1M by its recipe: how long until the filtered validation NDCG@10 is .193."""

from __future__ import annotations

import time
from typing import Any

import psutil

from gpu_parts.place import Place
from gpu_parts.tables import reasons, table
from gpu_parts.training import QUIET, SMALL
from recbole_ssm.training.run import run

TARGET = 0.193

VARIANTS = {"with CUDA graphs": {"cuda_graph": True}, "the recipe": {}}


class _Enough(Exception):
    """There is no time for another epoch, or nothing more to see."""


def measure(place: Place) -> None:
    """Train 2Mamba4Rec as the recipe says; then without CUDA graphs, until it is as good."""
    for name, keys in VARIANTS.items():
        place.attempt(name, _train, place, name, keys)


def _train(place: Place, variant: str, more: dict[str, Any]) -> dict[str, Any]:
    """What a training gave; after each epoch it is noted."""
    begun = time.time()
    dataset, keys = place.dataset("ml-1m")
    keys |= {**QUIET, "use_gpu": place.on_gpu, **({**SMALL, "epochs": 2} if place.tiny else {}), **more}
    found: dict[str, Any] = {"epochs": []}

    def after_epoch(trainer: Any) -> None:
        last, epochs = trainer.history[-1], found["epochs"]
        epochs.append({name: last[name] for name in ("epoch", "train_loss", "train_seconds", "valid_seconds")})
        epochs[-1]["ndcg"] = last["valid_score"]
        if last["valid_score"] >= TARGET and "reached" not in found:
            found["reached"] = _reached(epochs, begun)
        place.note(variant, found)
        if ("reached" in found and not more) or place.left() < 1.5 * (time.time() - begun) / len(epochs):
            raise _Enough

    try:
        result = run("2Mamba4Rec", dataset, ["recipe/2Mamba4Rec-ml-1m"], keys, after_epoch=after_epoch)
    except _Enough:
        return found | {"stopped": f"after epoch {len(found['epochs'])}"}
    kept = ("test_result", "seconds_per_epoch", "best_epoch", "seconds_to_best", "parameters", "peak_memory_gib")
    return found | {name: result[name] for name in kept}


def _reached(epochs: list[dict], begun: float) -> dict[str, float]:
    """Seconds: of training, with validation, with reading the data, and with starting Python."""
    training, first = sum(epoch["train_seconds"] for epoch in epochs), psutil.Process().create_time()
    return {
        "epoch": len(epochs),
        "training": training,
        "with_validation": training + sum(epoch["valid_seconds"] for epoch in epochs),
        "with_data": time.time() - begun,
        "since_start": time.time() - begun + STARTED - first,
    }


STARTED = time.time()
"""When this module had been imported, and with it all packages."""


def lines(result: dict) -> list[str]:
    """When it was reached, and each epoch."""
    text: list[str] = []
    for name, found in result.items():
        epochs = found.get("epochs", []) if isinstance(found, dict) else []
        numbers = (
            (f"{e['train_loss']:.4f}", f"{e['ndcg']:.4f}", f"{e['train_seconds']:.2f}", f"{e['valid_seconds']:.2f}")
            for e in epochs
        )
        heads = [f"{name}: epoch", "loss", "NDCG@10, filtered", "training s", "validation s"]
        text += ["", *table(heads, [[number, *each] for number, each in enumerate(numbers, 1)]), ""] if epochs else []
        if "reached" in found:
            words = "{training:.1f} s of training, {with_validation:.1f} s with validation, {with_data:.1f} s with"
            words += " reading the data, {since_start:.1f} s with starting Python"
            text.append(f"NDCG@10 of {TARGET} in epoch {found['reached']['epoch']}: {words.format(**found['reached'])}")
        elif epochs:
            text.append(f"NDCG@10 of {TARGET} was not reached" + f"; stopped {found['stopped']}" * ("stopped" in found))
        if "test_result" in found:
            test = found["test_result"]
            words = ", ".join(f"{metric} {test[metric]:.4f}" for metric in ("hit@10", "ndcg@10") if metric in test)
            text.append(f"test: {words}; {found['peak_memory_gib']:.2f} GiB")
    return [*text, *reasons(result)]
