"""The content of items that models may read: its keys, and how it is made."""

from __future__ import annotations

from typing import Any

from recbole_ssm.layers.item_content import ItemContent
from recbole_ssm.model.declarations import Configuration, Key

ADDED, FROZEN, START = "added", "frozen", "start"
"""What ``item_vectors_as`` may be."""

CONTENT_KEYS = (
    Key(
        "item_vectors",
        str,
        "a file of a vector for each item, .npy or .safetensors, whose learned projection is added to the embeddings; "
        "the names of the items stand in a file of the same name with the ending .txt",
        optional=True,
    ),
    Key(
        "item_vectors_as",
        str,
        "how item_vectors are used: added to the embeddings; frozen, in place of the embeddings, so that all items are "
        "known by what is known of them alone, item_features too; or start, as initial embeddings",
        ADDED,
        choices=(ADDED, FROZEN, START),
    ),
    Key(
        "item_features",
        str,
        "columns of the .item file, separated by commas, such as categories, that are added to the embeddings likewise",
        optional=True,
    ),
    Key("id_dropout", float, "share of the items that a training step knows by these alone", 0.2, low=0, high=1),
)


def make_content(config: Configuration, dataset: Any, n_items: int) -> ItemContent | None:
    """The content of items that the keys ask for; None if they ask for none.

    Args:
        config: the configuration.
        dataset: the training split, or a :class:`recbole_ssm.model.catalogue.Catalogue`.
        n_items: number of items, with the padding item 0.

    Returns:
        The content of the items of the training split; without vectors for what stands for a dataset.
    """
    how = config["item_vectors_as"]
    if not config["item_features"] and (not config["item_vectors"] or how == START):
        return None
    content = ItemContent(n_items, config["hidden_size"], config["id_dropout"], config["initializer_range"])
    if hasattr(dataset, "item_content") and content.values.device.type == "cpu":  # not while sizes are compared
        content.describe(*dataset.item_content(), frozen=how == FROZEN)
    return content
