"""How good recommendations are for the last item of each history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from logging import getLogger
from math import log2

from recbole_ssm.errors import InputError
from recbole_ssm.serving.ranker import Ranker
from recbole_ssm.serving.users import Users, unknown_in_words

_BY_RANK: dict[str, Callable[[int, int], float]] = {
    "hit": lambda rank, k: 1.0,
    "recall": lambda rank, k: 1.0,
    "precision": lambda rank, k: 1 / k,
    "ndcg": lambda rank, k: 1 / log2(rank + 1),
    "mrr": lambda rank, k: 1 / rank,
    "map": lambda rank, k: 1 / rank,
}
"""What a metric is for one target of a rank from 1 to k; 0 for a target that comes later."""


def metrics_of_last(recommender: Ranker, users: Users, metrics: Sequence[str], topk: Sequence[int]) -> dict[str, float]:
    """Rank all items after each user's history without its last item, which is the target.

    A target that the model does not know is a miss, and so is one that a recommender which leaves seen items out finds
    in the history. Users without an item that the model knows before the target are left out, and counted in the log.

    Args:
        recommender: the model.
        users: whole histories.
        metrics: names of RecBole's metrics; others than hit, recall, precision, NDCG, MRR and MAP are passed over.
        topk: the cut-offs.

    Returns:
        The mean of each metric over the users that were tested, by names such as ``ndcg@10``.

    Raises:
        InputError: no user can be tested.
    """
    tested = [name for name, history in users.histories.items() if any(map(recommender.__contains__, history[:-1]))]
    if not tested:
        raise InputError("no user has an item that the model knows before the last one, so that nothing can be tested")
    histories, columns = users.of(tested)
    before = [history[:-1] for history in histories]
    getLogger().info(
        f"{len(tested)} of {len(users.histories)} users are tested. {unknown_in_words(recommender, before)}"
    )
    found = recommender.ranked(
        before,
        max(topk),
        recommender.choice(None, None, len(before)),
        skip_unknown=True,
        columns={name: [each[:-1] for each in values] for name, values in columns.items()},
    )
    ranks = [
        next((rank for rank, (item, _) in enumerate(best, 1) if item == history[-1]), None)
        for best, history in zip(found, histories, strict=True)
    ]
    return {
        f"{name.lower()}@{k}": sum(_BY_RANK[name.lower()](rank, k) for rank in ranks if rank and rank <= k) / len(ranks)
        for name in metrics
        if name.lower() in _BY_RANK
        for k in topk
    }
