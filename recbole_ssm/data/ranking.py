"""Evaluation by the same rules for models of every kind: whether seen items are ranked, and which candidates are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from logging import getLogger

import numpy as np
from numpy.typing import NDArray
from recbole.utils import ModelType
from torch import Tensor

from recbole_ssm.config import Config
from recbole_ssm.data.candidates import FixedCandidates
from recbole_ssm.data.recbole_loaders import RowPerSample
from recbole_ssm.data.recbole_types import EvalLoader, Loaders
from recbole_ssm.data.seen_filter import (
    Seen,
    add_seen_filter,
    columns_of_samples,
    seen_before_places,
    seen_in_lists,
    seen_in_sequences,
    seen_in_splits,
)
from recbole_ssm.errors import InputError


def rank_alike(
    config: Config, loaders: Loaders, history: tuple[Tensor, Tensor] | None, interacted: NDArray[np.int64]
) -> None:
    """Filter seen items, or not, and fix the candidates of sampled evaluation.

    Each loader of evaluation data gets ``share_repeated``, see :class:`EvalLoader`.

    Args:
        config: the configuration.
        loaders: of training, validation and test data; those of evaluation data are changed.
        history: from :func:`recbole_ssm.data.order.chronological_history` where seen items are filtered of a dataset
            that is sequential, or split in time; None if it is split by files.
        interacted: (n_items,) how many interactions each item has.
    """
    seen: Sequence[Seen | None]
    if history is not None:
        seen = (seen_in_sequences if config.temporal is None else seen_before_places)(loaders, *history)
    elif not config.excludes_seen:
        seen = None, None
    else:
        seen = seen_in_lists(loaders) if config.MODEL_TYPE == ModelType.SEQUENTIAL else seen_in_splits(loaders)
    for number, (loader, seen_before) in enumerate(zip(loaders[1:], seen, strict=True)):
        mode = config.eval_args["mode"][("valid", "test")[number]]
        if mode.startswith(("uni", "pop")) and len(loader._dataset):
            weights = interacted if mode.startswith("pop") else (np.arange(len(interacted)) > 0).astype(np.int64)
            _fix_candidates(
                loader, FixedCandidates(config.seed, number, weights, _excluded(config, loader, seen_before))
            )
        if seen_before is not None and mode == "full" and "gauc" in map(str.lower, config.metrics):
            _check_negatives(loader, seen_before)
        if seen_before is not None and (config.filter_seen or isinstance(loader, RowPerSample)):
            told = config.is_packed and config.model_class.reads_seen(config)
            add_seen_filter(loader, seen_before, keeps_targets=not config.filter_seen, told=told)
        loader.share_repeated = None if seen_before is None else seen_before.share_repeated()
    of_test = seen[1]
    if of_test is not None and of_test.repeated.any():
        getLogger().warning(
            f"{of_test.share_repeated():.1%} of the test targets are items that their users have had before. "
            + config.rule_of_seen
        )


def _fix_candidates(loader: EvalLoader, candidates: FixedCandidates) -> None:
    """Draw a loader's candidates from these; raises InputError where no item is left for a user."""
    loader._sampler = candidates
    users, targets = (column.numpy() for column in columns_of_samples(loader))
    for row in loader.uid_list:
        samples = loader.uid2index[row]
        candidates.left_out(int(users[samples][0]), targets[samples])


def _check_negatives(loader: EvalLoader, seen: Seen) -> None:
    """Raise InputError if no target of a full ranking has an item to be ranked against, so that GAUC is nan.

    RecBole warns of single users whose targets have none, and leaves them out of GAUC.
    """
    n_others = loader._dataset.item_num - 2  # without the padding and the target
    if not len(seen.length) or (seen.length < n_others).any():
        return
    targets = loader._dataset.inter_feat[loader._dataset.iid_field].tolist()
    if all(len({*seen.of_row(row).tolist()} - {target}) >= n_others for row, target in enumerate(targets)):
        raise InputError(
            "metrics: GAUC ranks targets against items that their users have not had before, and no such item is left; "
            "remove GAUC, or set --filter_seen=False for a sequential model"
        )


def _excluded(config: Config, loader: EvalLoader, seen: Seen | None) -> Callable[[int], NDArray[np.int64]]:
    """The items that are not drawn as candidates for a user."""
    if config.filter_seen and seen is not None:
        users = columns_of_samples(loader)[0].numpy()  # sorted
        return lambda user: np.concatenate(
            [seen.of_row(row).numpy() for row in range(*np.searchsorted(users, [user, user + 1]).tolist())]
        )
    if config.excludes_seen:
        used = loader._sampler.used_ids
        return lambda user: np.fromiter(used[user], np.int64)
    return lambda user: np.empty(0, np.int64)
