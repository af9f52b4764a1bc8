"""What a training came to: as values for a program, and as lines for a reader."""

from __future__ import annotations

from collections.abc import Mapping
from logging import getLogger
from statistics import median
from typing import Any

from recbole.utils import set_color
from torch import nn

from recbole_ssm.config.config import Config
from recbole_ssm.system.resources import peak_memory_gib
from recbole_ssm.training import json_log
from recbole_ssm.training.hooks.history import seconds_of


def measured(config: Config, trainer: Any) -> dict[str, Any]:
    """What a training took, and how large its model is; see :func:`recbole_ssm.training.run.run`."""
    total, body = count_parameters(trainer.model)
    history, best = trainer.history, trainer.best_epoch()
    return {
        "valid_score_bigger": config.valid_metric_bigger,
        "epochs": len(history),
        "seconds_per_epoch": median(epoch["train_seconds"] for epoch in history) if history else None,
        "best_epoch": best,
        "seconds_to_best": seconds_of(history[:best]),
        "history": history,
        "parameters": total,
        "parameters_without_item_embedding": body,
        "peak_memory_gib": peak_memory_gib(config.device),
    }


def log_summary(config: Config, result: Mapping[str, Any], *, tested: bool) -> None:
    """Tell the log what a run came to."""
    seconds, body = result["seconds_per_epoch"], result["parameters_without_item_embedding"]
    lines = {
        "split": config.split_in_words,
        "order, filter": f"time_order {config.order_of_histories}, {config.rule_of_seen}",
        "best valid": metrics_in_words(result["best_valid_result"]),
        **({"test result": metrics_in_words(result["test_result"])} if tested else {}),
        "epochs": f"{result['epochs']}" + ("" if seconds is None else f", {seconds:.2f} s of training each (median)"),
        "parameters": f"{result['parameters']:,}, without item embedding {body:,}",
        "peak memory": f"{result['peak_memory_gib']:.2f} GiB",
        "checkpoint": result["checkpoint"] or "not saved",
        "metrics": json_log.file(),
    }
    for name, text in lines.items():
        getLogger().info(f"{set_color(name, 'yellow')}: {text}")
    if 0 < result["best_epoch"] <= (config.causal_epochs or 0):
        getLogger().warning(
            f"the best epoch, {result['best_epoch']}, is one of the {config.causal_epochs} causal_epochs: its model "
            "reads in both directions now, but was trained in one; train longer, or set fewer causal_epochs"
        )


def metrics_in_words(metrics: Mapping[str, float] | None) -> str:
    """Metrics as a line of text; None for a split without such data."""
    if metrics is None:
        return "there is no such data"
    return ", ".join(f"{name} {value}" for name, value in metrics.items())


def count_parameters(model: object) -> tuple[int, int]:
    """Trainable parameters of a model: all, and without the embedding of items. Trees and counts have none."""
    if not isinstance(model, nn.Module) or not getattr(model, "is_trained", True):
        return 0, 0
    total = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    items = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.num_embeddings == getattr(model, "n_items", None)
    )
    return total, total - items
