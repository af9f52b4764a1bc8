"""The size of a dataset, from which settings follow."""

from __future__ import annotations

import numpy as np

from recbole_ssm.config.from_data import Statistics
from recbole_ssm.data.recbole_types import Dataset


def statistics_of(dataset: Dataset) -> Statistics:
    """Count what a model will read of a dataset.

    Args:
        dataset: loaded and filtered, and not yet built.

    Returns:
        The numbers of interactions, users and items. Of a history only the latest ``MAX_ITEM_LIST_LENGTH`` interactions
        and the target after them count. Of pre-split files each line of the first, the training file, is one.
    """
    users, items = dataset.user_num - 1, dataset.item_num - 1
    if dataset.config.benchmark_filename is not None:
        return Statistics(int(dataset.file_size_list[0]), users, items)
    lengths = np.bincount(dataset.inter_feat[dataset.uid_field].to_numpy())
    longest = dataset.config.MAX_ITEM_LIST_LENGTH
    read = lengths if longest is None else np.minimum(lengths, longest + 1)
    return Statistics(int(read.sum()), users, items)
