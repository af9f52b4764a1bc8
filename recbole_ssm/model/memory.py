"""The memory of transitions that models may have: its keys, and how it is made."""

from __future__ import annotations

from typing import Any

from recbole_ssm.layers.transition_memory import Counting, TransitionMemory
from recbole_ssm.model.declarations import Configuration, Key

MEMORY_KEYS = (
    Key(
        "transition_memory",
        bool,
        "add what the counted transitions from the latest items say of each item",
        False,
    ),
    Key("memory_items", int, "latest items of the history that the memory looks up", 10, low=1, high=100),
    Key("memory_window", int, "largest distance at which it counts one item after another", 20, low=1, high=100),
    Key("memory_power", float, "a transition over d places counts d to the power of minus this", 0.5, low=0),
    Key("memory_smoothing", float, "the memory adds log(1 + count / this) / log(1 + 1 / this)", 1.0, low=1e-6),
    Key("memory_dropout", float, "share of training targets that the memory adds nothing to", 1.0, low=0, high=1),
    Key("memory_scale", float, "in use the weights of the memory are multiplied by this", 1.75, low=0),
    Key("memory_strongest", int, "largest counts after each item that the memory keeps", 200, low=1),
    Key(
        "memory_rarity",
        float,
        "counts of an item that comes f times as often as the mean are divided by f to the power of this",
        0.0,
        low=0,
    ),
)

_OF_COUNTING = ("window", "power", "smoothing", "strongest")


def make_memory(config: Configuration, dataset: Any, n_items: int) -> TransitionMemory:
    """The memory that the keys ask for.

    Args:
        config: the configuration.
        dataset: the training split, or a :class:`recbole_ssm.model.catalogue.Catalogue`.
        n_items: number of items, with the padding item 0.

    Returns:
        A memory of the sequences of the training split; an empty one for what stands for a dataset.
    """
    rarity = config["memory_rarity"] or 0.0  # None in a checkpoint of before there was one
    counting = Counting(*(config[f"memory_{key}"] for key in _OF_COUNTING))._replace(rarity=rarity)
    memory = TransitionMemory(
        n_items, config["memory_items"], counting, config["memory_dropout"], config["memory_scale"]
    )
    if hasattr(dataset, "whole_sequences") and memory.parameter.device.type == "cpu":  # not while sizes are compared
        memory.learn(*dataset.whole_sequences())
    return memory
