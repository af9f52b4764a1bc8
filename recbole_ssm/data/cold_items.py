"""A protocol for items that nobody has had: a share of the items is in no training, and they alone are tested.

Leave one out, with two differences. From all histories those items are left out, but where one is a user's last
interaction. Only such users are tested: the item is ranked among all items. Which items they are follows from their
names, so that it is the same for all models, seeds and orders of rows. It is the "item cold start" of DropoutNet
(Volkovs et al., NIPS 2017), with full ranking among cold and other items together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from logging import getLogger

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_ssm.data.order import by_user_and_time
from recbole_ssm.data.recbole_datasets import as_kind, mixed_with
from recbole_ssm.data.recbole_types import Dataset
from recbole_ssm.errors import InputError

_LEAST = 2
"""Interactions that a user must have before a tested one: the first, and one to learn from."""


def are_cold(names: Iterable[str], share: float) -> NDArray[np.bool_]:
    """Which items are held back from the training.

    Args:
        names: of n items, the padding first.
        share: of them, about.

    Returns:
        (n,), False for the padding.
    """
    digests = (hashlib.blake2b(str(name).encode(errors="surrogatepass"), digest_size=8).digest() for name in names)
    found = np.array([int.from_bytes(each) < share * 2**64 for each in digests])
    found[0] = False
    return found


def with_cold_items(dataset: Dataset, share: float) -> Dataset:
    """A loaded, unbuilt dataset for this protocol.

    Args:
        dataset: of any kind, with the split ``leave one out``; its rows are changed.
        share: of the items that are held back.

    Returns:
        The dataset; :meth:`TestsColdItems.build` splits it.

    Raises:
        InputError: nobody's last interaction is with such an item.
    """
    feat = dataset.inter_feat
    users, times = (feat[field].to_numpy() for field in (dataset.uid_field, dataset.time_field))
    order = np.arange(len(feat))[by_user_and_time(users, times)]
    user = users[order]
    cold = are_cold(dataset.field2id_token[dataset.iid_field], share)[feat[dataset.iid_field].to_numpy()[order]]
    last = np.append(user[1:] != user[:-1], True)
    others = np.bincount(user, weights=~cold)[user]
    tested = cold & last & (others >= _LEAST)
    if not tested.any():
        raise InputError(
            f"cold_items={share:g} holds back {int(cold.sum())} interactions of dataset {dataset.dataset_name!r}, and "
            "none of them is the last one of a user; take a larger share"
        )
    kept = np.zeros(len(feat), dtype=bool)
    kept[order[tested | ~cold]] = True
    dataset.inter_feat = feat[kept].reset_index(drop=True)
    getLogger().info(
        f"cold items: {len(feat) - kept.sum():,} of {len(feat):,} interactions are left out, and {tested.sum():,} "
        "users are tested"
    )
    return mixed_with(TestsColdItems, dataset)


class TestsColdItems(Dataset):
    """Mixed into a loaded dataset of any kind: only samples whose target is a cold item are tested."""

    __test__ = False  # no test of pytest

    def build(self) -> list[Dataset]:
        """Split as ``eval_args`` says.

        Returns:
            The parts of training, validation and test, of the class without this mixin.
        """
        parts = [as_kind(type(self).__mro__[2], part) for part in super().build()]
        cold = torch.from_numpy(are_cold(self.field2id_token[self.iid_field], self.config.cold_items))
        test = parts[-1]
        test.inter_feat = test.inter_feat[cold[test.inter_feat[self.iid_field]]]
        return parts
