"""Beginning a training with the weights of a checkpoint, whose data had other items: some are new, some are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.config.config import Config
from recbole_ssm.errors import CheckpointError
from recbole_ssm.layers import ItemContent, TransitionMemory
from recbole_ssm.model.base import PackedSequentialRecommender

_OF_DATA = frozenset(
    [*(f"memory.{name}" for name in TransitionMemory.OF_DATA), *(f"content.{name}" for name in ItemContent.OF_DATA)]
)
"""What a model has from its own data, and does not take over."""


def read_beginning(config: Config) -> dict[str, Any] | None:
    """What is in the checkpoint that ``init_from`` names; None if it names none.

    Args:
        config: of the training.

    Returns:
        The checkpoint's content.

    Raises:
        CheckpointError: it cannot be read, or is of another model.
    """
    file = config.init_from
    if not file:
        return None
    state = checkpoint.read(file, trust=config.trust_checkpoint)
    if state["config"]["model"] != config["model"]:
        raise CheckpointError(f"init_from: {file} is a {state['config']['model']}, and a {config['model']} is trained")
    return state


def settings_of(config: Config, state: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a model must have to begin with a checkpoint's weights: all keys of the model itself.

    Args:
        config: of the training.
        state: what is in the checkpoint.

    Returns:
        Keys and values of the checkpoint's training.
    """
    names = (key.name for key in config.model_class.keys)
    return {name: state["config"][name] for name in names if name in state["config"]}


def begin_with(
    model: PackedSequentialRecommender, state: Mapping[str, Any], items: Sequence[str], file: str | Path
) -> None:
    """Give a new model the weights of a checkpoint.

    An item that both know keeps its weights, whatever its number was. A new item gets the mean of these, and its own
    initial weights are added, so that no two are alike.

    Args:
        model: is changed in place.
        state: what is in the checkpoint.
        items: name of each item by its number; number 0 is the padding.
        file: the checkpoint's name.

    Raises:
        CheckpointError: no item is known, or the checkpoint has other weights.
    """
    number = {name: row for row, name in enumerate(state["item_vocabulary"])}
    known = torch.tensor([row for row, name in enumerate(items) if name in number])
    if len(known) < 2:  # the padding is one
        raise CheckpointError(f"init_from: {file} knows none of the items of these data")
    before = torch.tensor([number[items[row]] for row in known.tolist()])
    new = torch.tensor([row for row, name in enumerate(items) if name not in number], dtype=torch.int64)
    own, old = model.state_dict(), state["state_dict"]
    if own.keys() != old.keys():
        odd = min(own.keys() ^ old.keys())
        raise CheckpointError(f"init_from: {file} has {'no ' if odd in own else ''}weights {odd}; {_SAME}")
    for name, weight in own.items():
        if name in _OF_DATA:
            continue
        there = old[name].to(weight)
        if name not in model.of_items:
            if there.shape != weight.shape:
                raise CheckpointError(f"init_from: {file} has weights {name} of another size; {_SAME}")
            weight.copy_(there)
        elif there.shape[1:] != weight.shape[1:] or len(there) <= int(before.max()):
            raise CheckpointError(f"init_from: {file} has weights {name} of another size; {_SAME}")
        else:
            _fill(weight, there, known.to(weight.device), before.to(weight.device), new.to(weight.device))


def _fill(weight: Tensor, old: Tensor, known: Tensor, before: Tensor, new: Tensor) -> None:
    """Rows (n_items, ...) of known items from ``old``, the padding first; those of ``new`` ones from their mean."""
    rows = old[before]
    weight[known] = rows
    weight[new] += rows[1:].mean(0)


_SAME = "leave out the settings in which this training differs from it"
