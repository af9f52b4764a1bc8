"""Evaluation of some users, for models that take long to rank all items."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from torch import Tensor

from recbole_ssm.data.recbole_loaders import RowPerSample
from recbole_ssm.data.recbole_types import EvalLoader


def keep_users(loader: EvalLoader, n: int) -> None:
    """Let a loader of evaluation data give the rows of some of its users only.

    These are the first of a permutation that follows from the users' names alone. So they are the same for all models,
    and more of them include fewer.

    Args:
        loader: is changed, before it is iterated.
        n: how many users.
    """
    dataset = loader._dataset
    if not len(dataset):
        return
    owner = _users_of_rows(loader)
    users = owner.unique()
    names = dataset.field2id_token[dataset.uid_field][users.numpy()]
    order = np.argsort([int.from_bytes(blake2b(str(name).encode(), digest_size=7).digest()) for name in names])
    kept = torch.isin(owner, users[torch.from_numpy(order[:n])])
    vars(loader)["dataset"][:] = kept.nonzero()[:, 0].tolist()  # the list of rows, by which torch's sampler goes


def evaluated_rows(loader: EvalLoader) -> Tensor:
    """The numbers (R,) of the rows that a loader of evaluation data gives, in their order."""
    return torch.tensor(vars(loader)["dataset"], dtype=torch.int64)


def _users_of_rows(loader: EvalLoader) -> Tensor:
    """The user of each row of a loader."""
    dataset = loader._dataset
    users = dataset.inter_feat[dataset.uid_field]
    if isinstance(loader, FullSortEvalDataLoader):
        return users if loader.is_sequential or isinstance(loader, RowPerSample) else torch.as_tensor(loader.uid_list)
    if not hasattr(loader, "uid2index"):  # whose interactions have labels
        return users
    return torch.tensor([int(users[loader.uid2index[row]][0]) for row in loader.uid_list])
