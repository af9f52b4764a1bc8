"""Checkpoints that no training has made: random weights and made-up names, to test and to measure what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.popularity import KEY
from recbole_ssm.config.config import Config
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.system.plain import plain
from recbole_ssm.system.version import __version__
from recbole_ssm.training.make_model import make_model


def made_checkpoint(
    file: Path, items: Sequence[str] | int, model: str = "2Mamba4Rec", seed: int = 0, **settings: Any
) -> Path:
    """Write a checkpoint with random weights, whose first items are the most popular ones.

    Args:
        file: where to.
        items: names of the items, or how many there are: they are called i1, i2 and so on.
        model: its name.
        seed: of the weights.
        **settings: keys of the configuration; the others have their published values.

    Returns:
        The file.
    """
    names = [f"i{number}" for number in range(1, items + 1)] if isinstance(items, int) else list(items)
    fixed = {"use_gpu": False, "show_progress": False, "defaults": "paper"}
    config = Config(model, "ml-100k", config_dict={**fixed, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: Any = make_model(config, Catalogue(len(names) + 1))
    state = {
        "versions": {"recbole_ssm": __version__, "torch": str(torch.__version__)},
        "config": plain(config.final_config_dict),
        "given": plain(config.given),
        "dataset": {"name": "made", "users": 1, "items": len(names), "samples": 1, "hash": "made"},
        "item_vocabulary": ["[PAD]", *names],
        KEY: torch.arange(len(names) + 1.0).flip(0),
        **{"epoch": 0, "cur_step": 0, "best_valid_score": 0.0, "history": []},
        "state_dict": made.state_dict(),
        "other_parameter": made.other_parameter(),
        **{"optimizer": {}, "training": {}},
    }
    checkpoint.write(file, state)
    return file
