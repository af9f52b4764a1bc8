"""Checkpoints of models that were never trained, for tests of what is done with a model."""

from __future__ import annotations

from pathlib import Path

import torch
from model_cases import build, config_of
from packed_cases import borders, randomise

from recbole_ssm.checkpoints import format as checkpoint

SIZES = {"hidden_size": 16, "d_state": 4, "num_layers": 2, "headdim": 8, "max_positions": 20}


def made_checkpoint(
    file: Path, model: str, n_items: int = 40, config: dict | None = None, names: str = "i{}", **keys
) -> str:
    """Write a checkpoint of a small model with random weights.

    Args:
        file: to write.
        model: its name.
        n_items: number of items, without the padding item 0.
        config: keys of the configuration that are no model's.
        names: of the items, with their number.
        **keys: of the model.

    Returns:
        The file's name.
    """
    declared = {key.name for key in config_of(model).model_class.keys}
    keys = {name: value for name, value in SIZES.items() if name in declared} | keys
    torch.manual_seed(0)
    made = randomise(build(model, n_items + 1, **keys))
    if getattr(made, "memory", None) is not None:
        made.memory.learn(torch.randint(1, n_items + 1, (200,)), borders([20] * 10))
    stored = {key: config_of(model, **keys)[key] for key in declared | {"LIST_SUFFIX", "ITEM_ID_FIELD", "TIME_FIELD"}}
    stored |= {key: config_of(model)[key] for key in ("USER_ID_FIELD", "ITEM_LIST_LENGTH_FIELD", "NEG_PREFIX")}
    stored |= {"model": model, "dataset": "tiny", "time_order": "exact", "MAX_ITEM_LIST_LENGTH": None} | (config or {})
    state = {
        "versions": {"recbole_ssm": "0"},
        "config": stored,
        "given": {},
        "dataset": {"name": "tiny", "users": 1, "items": n_items, "samples": 1, "hash": ""},
        "state_dict": made.state_dict(),
        "other_parameter": made.other_parameter() or {},
        **{"optimizer": {}, "training": {}, "history": [], "epoch": 0, "cur_step": 0, "best_valid_score": 0.0},
        "item_vocabulary": ["[PAD]", *map(names.format, range(1, n_items + 1))],
    }
    checkpoint.write(file, state)
    return str(file)
