"""The data of a training, described in few bytes."""

from __future__ import annotations

import hashlib
from typing import Any

from recbole_ssm.data.presplit import Histories


def fingerprint(dataset: Any) -> dict[str, Any]:
    """Name, sizes and a hash of a training split. The hash is of user and item names and of the samples in their order.

    Args:
        dataset: the training split, RecBole's or this package's.

    Returns:
        ``name``, ``users``, ``items``, ``samples`` and ``hash``.
    """
    digest, samples = hashlib.blake2b(digest_size=16), len(dataset.inter_feat)
    for field in (dataset.uid_field, dataset.iid_field):
        digest.update("\0".join(map(str, dataset.field2id_token[field])).encode())
        digest.update(dataset.inter_feat[field].numpy().data)
    if isinstance(dataset, Histories):  # elsewhere the samples before a sample are its history
        digest.update(dataset.history[: dataset.history_end[samples - 1]].numpy().data)
    return {
        "name": dataset.dataset_name,
        "users": dataset.user_num - 1,
        "items": dataset.item_num - 1,
        "samples": samples,
        "hash": digest.hexdigest(),
    }


def item_vocabulary(dataset: Any) -> list[str]:
    """Name of each item by its number; number 0 is ``[PAD]``."""
    return [str(token) for token in dataset.field2id_token[dataset.iid_field]]
