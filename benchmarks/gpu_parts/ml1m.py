"""MovieLens-1M by its recipe: how long until the filtered validation NDCG@10 is .193."""

from __future__ import annotations

import time
from typing import Any

import psutil

from gpu_parts.place import Place
from gpu_parts.tables import table
from gpu_parts.training import QUIET, SMALL
from recbole_ssm.training.run import run

TARGET = 0.193


def measure(place: Place) -> None:
    """Train 2Mamba4Rec as the recipe says; what each epoch gave is noted as it ends."""
    dataset, keys = place.dataset("ml-1m")
    keys |= {**QUIET, "use_gpu": place.on_gpu, **({**SMALL, "epochs": 2} if place.tiny else {})}
    epochs: list[dict[str, Any]] = []

    def after_epoch(trainer: Any) -> None:
        last = trainer.history[-1]
        epochs.append({name: last[name] for name in ("epoch", "train_loss", "train_seconds", "valid_seconds")})
        epochs[-1]["ndcg"] = last["valid_score"]
        place.note("epochs", epochs)
        if last["valid_score"] >= TARGET and "reached" not in place.result:
            place.note("reached", _reached(epochs))

    result = run("2Mamba4Rec", dataset, ["recipe/2Mamba4Rec-ml-1m"], keys, after_epoch=after_epoch)
    kept = ("test_result", "seconds_per_epoch", "best_epoch", "seconds_to_best", "parameters", "peak_memory_gib")
    place.note("run", {name: result[name] for name in kept})


def _reached(epochs: list[dict]) -> dict[str, float]:
    """Seconds: of training, with validation, and since this process began."""
    training = sum(epoch["train_seconds"] for epoch in epochs)
    return {
        "epoch": len(epochs),
        "training": training,
        "with_validation": training + sum(epoch["valid_seconds"] for epoch in epochs),
        "since_start": time.time() - psutil.Process().create_time(),
    }


def lines(result: dict) -> list[str]:
    """When it was reached, and each epoch."""
    rows = [
        [
            e["epoch"],
            f"{e['train_loss']:.4f}",
            f"{e['ndcg']:.4f}",
            f"{e['train_seconds']:.2f}",
            f"{e['valid_seconds']:.2f}",
        ]
        for e in result.get("epochs", [])
    ]
    found = table(["epoch", "loss", "NDCG@10, filtered", "training s", "validation s"], rows)
    if "reached" in result:
        words = "{training:.1f} s of training, {with_validation:.1f} s with validation, {since_start:.1f} s in all"
        found.append(f"NDCG@10 of {TARGET} in epoch {result['reached']['epoch']}: {words.format(**result['reached'])}")
    elif rows:
        found.append(f"NDCG@10 of {TARGET} was not reached")
    if "run" in result:
        test = result["run"]["test_result"]
        words = ", ".join(f"{name} {test[name]:.4f}" for name in ("hit@10", "ndcg@10") if name in test)
        found.append(f"test: {words}; {result['run']['peak_memory_gib']:.2f} GiB")
    return found
