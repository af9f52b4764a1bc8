"""What a training was on, in so few bytes that a checkpoint can say it."""

from __future__ import annotations

import hashlib

from recbole_ssm.data.presplit import Histories


def fingerprint(dataset) -> dict:
    """Name, sizes and a hash of a training split: of its users and items by name, and of its samples in their order.

    Args:
        dataset: the training split, RecBole's or this package's.
    """
    digest = hashlib.blake2b(digest_size=16)
    for field in (dataset.uid_field, dataset.iid_field):
        digest.update("\0".join(map(str, dataset.field2id_token[field])).encode())
        digest.update(dataset.inter_feat[field].numpy().data)
    if isinstance(dataset, Histories):  # elsewhere the samples before a sample are its history
        digest.update(dataset.history[: dataset.history_end[len(dataset) - 1]].numpy().data)
    return {
        "name": dataset.dataset_name,
        "users": dataset.user_num - 1,
        "items": dataset.item_num - 1,
        "samples": len(dataset.inter_feat),
        "hash": digest.hexdigest(),
    }


def item_vocabulary(dataset) -> list[str]:
    """Name of each item by its number; that of 0 is ``[PAD]``."""
    return [str(token) for token in dataset.field2id_token[dataset.iid_field]]
