"""Settings that follow from the size of the data: what a model of this package is trained with where nobody says more.

The rule is a pure function, smooth and bounded, so that data of any size get settings that can be used. It was read off
the recipes of seven data sets, and tried on these and on one more; the page on default settings has the figures.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import gcd, log, log2, sqrt
from typing import Any, NamedTuple

from recbole_ssm.model.declarations import Configuration


class Statistics(NamedTuple):
    """What the rule knows of the data: counts, after filters and cuts.

    They are of all interactions, those that are held out included, so that a training on the validation items has the
    same settings. They say nothing of what comes after what.
    """

    interactions: int
    users: int
    items: int

    @property
    def per_item(self) -> float:
        """Interactions of an item, on average."""
        return self.interactions / max(self.items, 1)


class Group(NamedTuple):
    """Settings that have one reason."""

    why: str
    settings: dict[str, Any]


def settings_from(data: Statistics, config: Configuration, given: Collection[str], width: int) -> list[Group]:
    """The settings that follow from the data.

    Args:
        data: its size.
        config: what the run is to be so far: the values of what is given, and the defaults of other keys.
        given: keys that somebody has given. What belongs to another choice than the rule's is left out: its epochs and
            rates belong to its schedule, and its decay to its learner.
        width: of the model's layers.

    Returns:
        Groups of settings. They may hold keys that are given, or that a model does not have.
    """
    learner = str(config["learner"]).lower() if "learner" in given else "adamw"
    cycle = "lr_schedule" not in given or config["lr_schedule"] == "one_cycle"
    tokens = batch_tokens(data.interactions)
    of_items: dict[str, Any] = {"dropout_prob": dropout(data.per_item, after_norm=bool(config["dropout_after_norm"]))}
    if learner == "adamw":
        of_items["weight_decay"] = weight_decay(data.per_item)
    if counts_help(data):
        of_items |= {"transition_memory": True, "memory_rarity": 0.25}
    groups = [Group(f"for {data.per_item:.3g} interactions per item", of_items)]
    if cycle:
        groups.append(Group(f"for {data.interactions:,} interactions", _length(data, config, given)))
    if "train_batch_size" not in given:
        steps = max(1, round(data.interactions / tokens))
        why = f"for {steps:,} step{'s' * (steps > 1)} in an epoch"
        groups.append(Group(why, {"train_batch_tokens": tokens}))
    if cycle and learner in ("adam", "adamw"):
        groups.append(_rates(config, width))
    return [*groups, Group("on all data", _on_all_data(config, width))]


def in_words(groups: Sequence[Group]) -> str:
    """A line for each group: its settings, and their reason."""
    return "\n".join(
        f"  {', '.join(f'{key} {value}' for key, value in group.settings.items())}: {group.why}" for group in groups
    )


def _on_all_data(config: Configuration, width: int) -> dict[str, Any]:
    return {
        "num_layers": 2,
        "d_state": 32,
        "headdim": gcd((config["expand"] or 1) * width, 16),
        "repeat_bias": True,
        "mask_ratio": 0.0,
        "learner": "adamw",
        "lr_schedule": "one_cycle",
    }


def _rates(config: Configuration, width: int) -> Group:
    """Learning rates; weights that are pretrained move less, and new embeddings of items as fast as ever."""
    if config["language_model"]:
        return Group("for pretrained weights", {"learning_rate": 2e-4, "embedding_lr_scale": 15.0})
    return Group(f"for width {width}", {"learning_rate": learning_rate(width), "embedding_lr_scale": 3.0})


def _length(data: Statistics, config: Configuration, given: Collection[str]) -> dict[str, Any]:
    """How long a training is. A cycle is not stopped early."""
    whole = epochs(data.interactions)
    number = config["epochs"] if "epochs" in given else max(2, whole // 4) if config["init_from"] else whole
    found = {"epochs": number, "stopping_step": number}
    if config["train_samples"] == "prefix_lm":
        found["causal_epochs"] = causal_epochs(number, data.per_item)
    return found


def epochs(interactions: int) -> int:
    """12 for a million interactions, and half as many for eight times that; 2 to 40."""
    return _within(2, round(12 * (1e6 / max(interactions, 1)) ** (1 / 3)), 40)


def causal_epochs(number: int, per_item: float) -> int:
    """Of so many epochs two thirds for 300 interactions of an item, and none for 77 or fewer."""
    return int(number * 2 / 3 * max(0.0, 1 - 2 * _rareness(per_item)))


def batch_tokens(interactions: int) -> int:
    """Interactions per batch: as many as leave an epoch about 50 steps, a power of two from 256 to 2048."""
    return 1 << round(log2(_within(256, interactions / 50, 2048)))


def dropout(per_item: float, *, after_norm: bool = False) -> float:
    """From 0.5 for 20 interactions of an item to 0.05 for 300, along their logarithm.

    Where it comes after the norms, and so takes from the residual stream itself, half of that, and at most 0.1.
    """
    found = 0.05 + 0.45 * _rareness(per_item)
    return round(min(found / 2, 0.1) if after_norm else found, 2)


def weight_decay(per_item: float) -> float:
    """40 over the interactions of an item, from 0.1 to 1."""
    return float(f"{_within(0.1, 40 / max(per_item, 1e-9), 1.0):.2g}")


def counts_help(data: Statistics) -> bool:
    """Whether a model gets a memory of transitions: up to 40 interactions of an item.

    Of frequent items a model learns itself what counts say. Above 5 million interactions counting takes gigabytes.
    """
    return data.per_item <= 40 and data.interactions <= 5_000_000


def learning_rate(hidden_size: int) -> float:
    """0.004; above width 64 it falls with the root of the width."""
    return float(f"{0.004 * min(1.0, sqrt(64 / hidden_size)):.2g}")


def _rareness(per_item: float) -> float:
    """1 up to 20 interactions of an item, 0 from 300 on, and a line along the logarithm between them."""
    return _within(0.0, log(300 / max(per_item, 1e-9)) / log(300 / 20), 1.0)


def _within(low: Any, value: Any, high: Any) -> Any:
    return min(max(low, value), high)
