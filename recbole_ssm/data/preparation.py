"""The split of a dataset, and its loaders: this package's for its models, RecBole's for RecBole's."""

from __future__ import annotations

from logging import getLogger

import numpy as np
from recbole.data.dataloader import NegSampleEvalDataLoader
from recbole.data.utils import create_samplers
from recbole.utils import ModelType, set_color

from recbole_ssm.config import Config
from recbole_ssm.data.dataloader import (
    PackedFullSortEvalDataLoader,
    PackedNegSampleEvalDataLoader,
    PackedTrainDataLoader,
)
from recbole_ssm.data.dataset import PackedDataset
from recbole_ssm.data.eval_users import keep_users
from recbole_ssm.data.order import chronological_history
from recbole_ssm.data.ranking import rank_alike
from recbole_ssm.data.recbole_loaders import recbole_loaders
from recbole_ssm.data.recbole_types import Dataset, Loaders
from recbole_ssm.errors import InputError


def check_topk(config: Config, dataset: Dataset) -> None:
    """Raise InputError if there are fewer items than a metric looks at."""
    if max(config.topk) > dataset.item_num:
        items = dataset.item_num - 1
        raise InputError(
            f"topk {max(config.topk)} asks for more than the {items} items there are; give topk=[{items}] and "
            f"valid_metric=NDCG@{items}, or smaller numbers"
        )


def data_preparation(config: Config, dataset: Dataset) -> Loaders:
    """Split a dataset and make its loaders.

    Args:
        config: the configuration.
        dataset: from :func:`create_dataset`.

    Returns:
        The loaders of training, validation and test data.

    Raises:
        InputError: the split leaves no training sample, or there are no items to draw where some are to be drawn.
    """
    _check_catalogue(config, dataset)
    history = chronological_history(dataset) if _filters_by_history(config) else None
    interacted = np.bincount(dataset.inter_feat[dataset.iid_field].to_numpy(), minlength=dataset.item_num)
    make = _packed_loaders if isinstance(dataset, PackedDataset) else recbole_loaders
    loaders = make(config, dataset)
    rank_alike(config, loaders, history, interacted)
    if config.eval_users is not None:
        for loader in loaders[1:]:
            keep_users(loader, config.eval_users)
    return loaders


def _filters_by_history(config: Config) -> bool:
    """Whether seen items are filtered by the whole histories of users, and not by splits or lists."""
    if config.temporal is not None:
        return config.excludes_seen
    sequential, presplit = config.MODEL_TYPE == ModelType.SEQUENTIAL, config.benchmark_filename is not None
    return bool(sequential and config.filter_seen and not presplit)


def _check_catalogue(config: Config, dataset: Dataset) -> None:
    """Raise InputError where items are to be drawn and there is only one: RecBole would draw for ever."""
    drawn = {"train_neg_sample_args": config.train_neg_sample_args["distribution"] != "none"}
    drawn["eval_args"] = any(mode.startswith(("uni", "pop")) for mode in config.eval_args["mode"].values())
    if dataset.item_num <= 2 and any(drawn.values()):
        asks = next(key for key, draws in drawn.items() if draws)
        raise InputError(
            f"dataset {dataset.dataset_name!r} has a single item, so that there is no other to draw, as {asks} asks for"
        )


def _packed_loaders(config: Config, dataset: Dataset) -> Loaders:
    splits = dataset.build()
    if not len(splits[0]):
        raise InputError(
            f"dataset {dataset.dataset_name!r}: the split {config.eval_args['split']} leaves no training sample"
        )
    samplers = create_samplers(config, dataset, splits)
    train = PackedTrainDataLoader(config, splits[0], samplers[0], shuffle=config.shuffle)
    kinds = {"full": PackedFullSortEvalDataLoader, "labeled": NegSampleEvalDataLoader}
    modes = config.eval_args["mode"]
    valid, test = (
        kinds.get(modes[phase], PackedNegSampleEvalDataLoader)(config, split, sampler, shuffle=False)
        for phase, split, sampler in zip(("valid", "test"), splits[1:], samplers[1:], strict=True)
    )
    getLogger().info(
        f"{set_color('[Training]: ', 'pink')}{config.train_samples}, {len(train)} batches per epoch; "
        f"{set_color('[Evaluation]: ', 'pink')}{config.eval_args}"
    )
    return train, valid, test
