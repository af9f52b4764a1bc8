"""Beginning a training with the weights of a checkpoint, whose data had other items: some are new, some are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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


class Beginning(NamedTuple):
    """What a training takes over from the checkpoint that it begins with."""

    file: str | Path
    settings: dict[str, Any]
    """All keys of the model itself, with the values that these weights need."""
    items: Sequence[str]
    """Name of each item by its number; number 0 is the padding."""
    weights: Mapping[str, Tensor]
    kept: Mapping[str, Any]
    """What the checkpoint keeps of the model beside its weights, without the texts of its items."""


def read_beginning(config: Config) -> Beginning | None:
    """What is in the checkpoint that ``init_from`` names; None if it names none.

    Args:
        config: of the training.

    Returns:
        What the training takes over.

    Raises:
        CheckpointError: it cannot be read, or is of another model.
    """
    file = config.init_from
    if not file:
        return None
    state = checkpoint.read(file, trust=config.trust_checkpoint)
    if state["config"]["model"] != config["model"]:
        raise CheckpointError(f"init_from: {file} is a {state['config']['model']}, and a {config['model']} is trained")
    names = (key.name for key in config.model_class.keys)
    settings = {name: state["config"][name] for name in names if name in state["config"]}
    kept = {key: value for key, value in (state.get("other_parameter") or {}).items() if key != "texts"}
    return Beginning(file, settings, state["item_vocabulary"], state["state_dict"], kept)


def begin_with(model: PackedSequentialRecommender, begun: Beginning, items: Sequence[str]) -> None:
    """Give a new model the weights of a checkpoint.

    An item that both know keeps its weights, whatever its number was. A new item gets the mean of these, and its own
    initial weights are added, so that no two are alike.

    Args:
        model: is changed in place.
        begun: from :func:`read_beginning`.
        items: name of each item of the model by its number.

    Raises:
        CheckpointError: no item is known, or the checkpoint has other weights.
    """
    number = {name: row for row, name in enumerate(begun.items)}
    known = torch.tensor([row for row, name in enumerate(items) if name in number])
    if len(known) < 2:  # the padding is one
        raise CheckpointError(f"init_from: {begun.file} knows none of the items of these data")
    before = torch.tensor([number[items[row]] for row in known.tolist()])
    new = torch.tensor([row for row, name in enumerate(items) if name not in number], dtype=torch.int64)
    own, old = model.state_dict(), begun.weights
    if own.keys() != old.keys():
        odd = min(own.keys() ^ old.keys())
        raise CheckpointError(f"init_from: {begun.file} has {'no ' if odd in own else ''}weights {odd}; {_SAME}")
    for name, weight in own.items():
        if name in _OF_DATA:
            continue
        there = old[name].to(weight)
        of_items = name in model.of_items
        if of_items:
            fits = there.shape[1:] == weight.shape[1:] and len(there) > int(before.max())
        else:
            fits = there.shape == weight.shape
        if not fits:
            raise CheckpointError(f"init_from: {begun.file} has weights {name} of another size; {_SAME}")
        if of_items:
            _fill(weight, there, known.to(weight.device), before.to(weight.device), new.to(weight.device))
        else:
            weight.copy_(there)


def _fill(weight: Tensor, old: Tensor, known: Tensor, before: Tensor, new: Tensor) -> None:
    """Rows (n_items, ...) of known items from ``old``, the padding first; those of ``new`` ones from their mean."""
    rows = old[before]
    weight[known] = rows
    weight[new] += rows[1:].mean(0)


_SAME = "leave out the settings in which this training differs from it"
