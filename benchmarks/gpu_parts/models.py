"""Models on the GPU beside the CPU: losses and metrics of two epochs, and trainings that move from one to the other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from gpu_parts.children import in_parallel
from gpu_parts.place import Place, Skipped
from gpu_parts.tables import number, reasons, table
from gpu_parts.training import QUIET
from recbole_ssm.training.run import run

MODELS = ("SSD4Rec", "Mamba4Rec", "2Mamba4Rec", "Hydra4Rec", "LRURec", "PackedSASRec")

BOUND = 1e-3
"""Relative difference of an epoch's loss that rounding may make; of a wrong gradient it is larger by far."""

_MAMBA2 = {"d_state": 32, "headdim": 16}
KEYS: dict[str, dict[str, Any]] = {
    "SSD4Rec": {**_MAMBA2, "mask_ratio": 0.0},
    "2Mamba4Rec": _MAMBA2,
    "Hydra4Rec": _MAMBA2,
}


def measure(place: Place) -> None:
    """Each model in a process of its own, at the same time."""
    in_parallel(place, "models", ["+".join(MODELS[::2])] if place.tiny else list(MODELS), workers=6, threads=2)


def job(place: Place, names: str) -> None:
    """Some of the models."""
    for name in names.split("+"):
        place.attempt(name, _model, place, name)


def _model(place: Place, name: str) -> dict:
    dataset, keys = place.dataset("ml-100k")
    keys |= {
        **QUIET,
        "epochs": 2,
        "dropout_prob": 0.0,
        "num_layers": 1,
        "train_batch_tokens": 4096,
        **KEYS.get(name, {}),
    }
    if place.tiny:
        keys |= {"hidden_size": 8} | ({"headdim": 4, "d_state": 4} if name in KEYS else {})

    def trained(on_gpu: bool, *, file: str = "", resume: bool | str = False) -> list[dict]:
        def after_epoch(trainer: Any) -> None:
            if file and len(trainer.history) == 1:
                shutil.copy(trainer.saved_model_file, file)

        given = keys | {"use_gpu": on_gpu, "checkpoint_dir": f"saved-{name}"}
        resume = str(Path(resume).absolute()) if resume else False
        return run(name, dataset, config_dict=given, after_epoch=after_epoch, resume=resume, test=False)["history"]

    cpu, gpu = trained(False, file=f"{name}-cpu.pth"), trained(place.on_gpu, file=f"{name}-gpu.pth")
    found: dict[str, Any] = {"bound": BOUND}
    for number_, (here, there) in enumerate(zip(cpu, gpu, strict=True), 1):
        found[f"epoch {number_}"] = _beside(here, there)
    place.note(name, found)
    moved = {"resumed on the GPU": (place.on_gpu, "cpu"), "resumed on the CPU": (False, "gpu")}
    for words, (on_gpu, begun_on) in moved.items():
        history = trained(on_gpu, resume=f"{name}-{begun_on}.pth")
        if len(history) != 2:
            raise Skipped(f"{words}: {len(history)} epochs are in the history, not 2")
        found[words] = _beside(cpu[1], history[1])
    found["right"] = all(each["difference"] <= BOUND for each in found.values() if isinstance(each, dict))
    return found


def _beside(cpu: dict, gpu: dict) -> dict:
    """Losses and validation metrics of an epoch."""
    return {
        "loss": [cpu["train_loss"], gpu["train_loss"]],
        "difference": abs(gpu["train_loss"] / cpu["train_loss"] - 1),
        "ndcg": [cpu["valid_score"], gpu["valid_score"]],
        "seconds": [cpu["train_seconds"], gpu["train_seconds"]],
    }


def lines(result: dict) -> list[str]:
    """A row for each model."""
    moments = ("epoch 1", "epoch 2", "resumed on the GPU", "resumed on the CPU")
    heads = ["losses, GPU over CPU - 1", *moments, "NDCG@10 CPU", "NDCG@10 GPU", f"within {BOUND:g}"]
    rows = []
    for name, found in result.items():
        if "epoch 2" in found:
            differences = [number(found[moment]["difference"], ".0e") for moment in moments if moment in found]
            differences += ["not reached"] * (len(moments) - len(differences))
            ndcg = [f"{each:.4f}" for each in found["epoch 2"]["ndcg"]]
            rows.append([name, *differences, *ndcg, found.get("right", "not known")])
    return [*table(heads, rows), *reasons(result)]
