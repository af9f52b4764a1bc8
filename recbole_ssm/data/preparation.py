"""The split of a dataset, and its loaders: this package's for its models, RecBole's for RecBole's."""

from __future__ import annotations

from logging import getLogger

import numpy as np
from recbole.data import data_preparation as prepare_recbole_data
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
from recbole_ssm.data.order import chronological_history
from recbole_ssm.data.pickles import only_trusted_pickles
from recbole_ssm.data.ranking import rank_alike
from recbole_ssm.data.recbole_types import Dataset, Loader, Loaders
from recbole_ssm.data.shares import SharedCollate
from recbole_ssm.errors import InputError
from recbole_ssm.system.distributed import rank, world_size


def check_topk(config: Config, dataset: Dataset) -> None:
    """Raise InputError if there are fewer items than a metric looks at."""
    if max(config["topk"]) > dataset.item_num:
        raise InputError(f"topk {max(config['topk'])} asks for more than the {dataset.item_num - 1} items there are")


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
    sequential, presplit = config["MODEL_TYPE"] == ModelType.SEQUENTIAL, config["benchmark_filename"] is not None
    history = chronological_history(dataset) if sequential and config["filter_seen"] and not presplit else None
    interacted = np.bincount(dataset.inter_feat[dataset.iid_field].to_numpy(), minlength=dataset.item_num)
    loaders = (
        _packed_loaders(config, dataset) if isinstance(dataset, PackedDataset) else _recbole_loaders(config, dataset)
    )
    rank_alike(config, loaders, history, interacted)
    return loaders


def _check_catalogue(config: Config, dataset: Dataset) -> None:
    """Raise InputError where items are to be drawn and there is only one: RecBole would draw for ever."""
    drawn = {"train_neg_sample_args": config["train_neg_sample_args"]["distribution"] != "none"}
    drawn["eval_args"] = any(mode.startswith(("uni", "pop")) for mode in config["eval_args"]["mode"].values())
    if dataset.item_num <= 2 and any(drawn.values()):
        asks = next(key for key, draws in drawn.items() if draws)
        raise InputError(
            f"dataset {dataset.dataset_name!r} has a single item, so that there is no other to draw, as {asks} asks for"
        )


def _packed_loaders(config: Config, dataset: PackedDataset) -> Loaders:
    splits = dataset.build()
    if not len(splits[0]):
        raise InputError(
            f"dataset {dataset.dataset_name!r}: the split {config['eval_args']['split']} leaves no training sample"
        )
    samplers = create_samplers(config, dataset, splits)
    train = PackedTrainDataLoader(config, splits[0], samplers[0], shuffle=config["shuffle"])
    kinds = {"full": PackedFullSortEvalDataLoader, "labeled": NegSampleEvalDataLoader}
    modes = config["eval_args"]["mode"]
    valid, test = (
        kinds.get(modes[phase], PackedNegSampleEvalDataLoader)(config, split, sampler, shuffle=False)
        for phase, split, sampler in zip(("valid", "test"), splits[1:], samplers[1:], strict=True)
    )
    getLogger().info(
        f"{set_color('[Training]: ', 'pink')}{config['train_samples']}, {len(train)} batches per epoch; "
        f"{set_color('[Evaluation]: ', 'pink')}{config['eval_args']}"
    )
    return train, valid, test


def _recbole_loaders(config: Config, dataset: Dataset) -> Loaders:
    try:
        with only_trusted_pickles(config):
            train, valid, test = prepare_recbole_data(config, dataset)
    except ValueError as error:
        if isinstance(error, InputError) or "negative" not in str(error):
            raise
        raise InputError(f"dataset {dataset.dataset_name!r}: {error}") from error
    if world_size() > 1:
        train.collate_fn = SharedCollate(train.collate_fn, rank(), world_size())
    if config["model"] == "Pop" and config["train_neg_sample_args"]["distribution"] == "none":
        _hold_no_item_twice(train)
    return train, valid, test


def _hold_no_item_twice(loader: Loader) -> None:
    """Give a training loader other batches: the first row of each item, then the second of each, and so on.

    It is for models that count an item once for each batch that holds it.
    """
    items = loader._dataset.inter_feat[loader._dataset.iid_field].numpy()
    rows = np.argsort(items, kind="stable")
    number = np.empty(len(items), dtype=np.int64)
    number[rows] = np.arange(len(items)) - np.searchsorted(items[rows], items[rows])
    ends = np.cumsum(np.bincount(number))
    batches = np.split(np.argsort(number, kind="stable"), ends[:-1])
    vars(loader)["batch_sampler"] = batches  # torch lets nobody set it once a loader is made
