"""RecBole's loaders, for RecBole's models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data import data_preparation as prepare_recbole_data
from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.data.dataloader.abstract_dataloader import AbstractDataLoader
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader, save_split_dataloaders
from recbole.sampler import Sampler
from recbole.utils import ModelType

from recbole_ssm.config import Config
from recbole_ssm.data.pickles import is_trusted, only_trusted_pickles
from recbole_ssm.data.recbole_types import Dataset, EvalBatch, Loader, Loaders
from recbole_ssm.data.shares import SharedCollate
from recbole_ssm.errors import InputError
from recbole_ssm.system.distributed import rank, world_size

_PHASES = ("train", "valid", "test")


def recbole_loaders(config: Config, dataset: Dataset) -> Loaders:
    """Split a dataset and make RecBole's loaders of training, validation and test data.

    Args:
        config: the configuration.
        dataset: loaded, of RecBole.

    Returns:
        The loaders.

    Raises:
        InputError: negative items are to be drawn for a user who has had all items.
    """
    try:
        with only_trusted_pickles(config):
            all_had = _refused_by_recbole(config, dataset) and not is_trusted(config, "dataloaders_save_path")
            train, valid, test = (_loaders_where_users_had_all if all_had else prepare_recbole_data)(config, dataset)
    except ValueError as error:
        if isinstance(error, InputError) or "negative" not in str(error):
            raise
        raise InputError(f"dataset {dataset.dataset_name!r}: {error}") from error
    if world_size() > 1:
        train.collate_fn = SharedCollate(train.collate_fn, rank(), world_size())
    if config.counts_per_batch:
        _hold_no_item_twice(train)
    if config.temporal is not None or config.MODEL_TYPE == ModelType.SEQUENTIAL:
        valid, test = (_with_row_per_sample(config, loader) for loader in (valid, test))
    return train, valid, test


def _with_row_per_sample(config: Config, loader: Loader) -> Loader:
    """An evaluation loader that ranks each sample on its own."""
    if isinstance(loader, NegSampleEvalDataLoader):
        return SampledRowPerSample(config, loader._dataset, loader._sampler)
    return loader if config.MODEL_TYPE == ModelType.SEQUENTIAL else RowPerSample(config, loader._dataset)


class RowPerSample(FullSortEvalDataLoader):
    """Full ranking for models that are not sequential, with a row for each sample, as sequential models have it.

    RecBole's own has a row for each user, with all targets of the user at once.

    Args:
        config: the configuration.
        dataset: of validation or test data.
    """

    def __init__(self, config: Config, dataset: Dataset):
        self.uid_field, self.iid_field = dataset.uid_field, dataset.iid_field
        self.is_sequential = False
        self.sample_size = len(dataset)
        AbstractDataLoader.__init__(self, config, dataset, None, shuffle=False)

    def collate_fn(self, index: Any) -> EvalBatch:
        """Users with their features, nobody's history, and the rows and items of the targets."""
        rows = torch.as_tensor(index)
        feat = self._dataset.inter_feat
        users = self._dataset.join(Interaction({self.uid_field: feat[self.uid_field][rows]}))
        return users, None, torch.arange(len(rows)), feat[self.iid_field][rows]


class SampledRowPerSample(NegSampleEvalDataLoader):
    """Sampled evaluation with a row for each sample, as full ranking has it, for sequential models and temporal splits.

    RecBole's own has a row for each user: all targets of a user, each after another history, are ranked together.
    """

    def _init_batch_size_and_step(self) -> None:
        n = len(self._dataset)
        if n and self.neg_sample_args["distribution"] != "none":
            self.uid_list, self.uid2items_num = np.arange(n), np.ones(n, dtype=np.int64)
            self.uid2index = [slice(row, row + 1) for row in range(n)]
            self.sample_size = n
        super()._init_batch_size_and_step()


def _refused_by_recbole(config: Config, dataset: Dataset) -> bool:
    """Whether RecBole would refuse a dataset because a user has had all items, also where nothing is drawn for them."""
    if config.repeatable or config.MODEL_TYPE == ModelType.KNOWLEDGE:
        return False
    items_of_users = dataset.inter_feat.groupby(dataset.uid_field)[dataset.iid_field].nunique()
    return bool(items_of_users.max() == dataset.item_num - 1)


def _loaders_where_users_had_all(config: Config, dataset: Dataset) -> tuple[Any, Any, Any]:
    """What RecBole's ``data_preparation`` gives, with a sampler that accepts users who have had all items."""
    splits = dataset.build()
    drawn = config.train_neg_sample_args
    used = _UsedItems(list(_PHASES), splits, "uniform" if drawn["distribution"] == "none" else drawn["distribution"])
    draws = {phase: config[f"{phase}_neg_sample_args"]["distribution"] != "none" for phase in _PHASES}
    samplers: dict[str, Any] = {phase: used.set_phase(phase) if draws[phase] else None for phase in _PHASES}
    if draws["train"] and any(len(items) + 1 == dataset.item_num for items in samplers["train"].used_ids):
        raise InputError(
            f"dataset {dataset.dataset_name!r}: a user has had all items in the training data, so that no negative "
            "item can be drawn; leave such users out with user_inter_num_interval"
        )
    loaders = tuple(
        get_dataloader(config, phase)(config, split, samplers[phase], shuffle=config.shuffle and phase == "train")
        for phase, split in zip(_PHASES, splits, strict=True)
    )
    if config.save_dataloaders:
        save_split_dataloaders(config, dataloaders=loaders)
    train, valid, test = loaders
    return train, valid, test


class _UsedItems(Sampler):
    """RecBole's sampler without its refusal of users who have had all items: for them nothing must be drawn."""

    def get_used_ids(self) -> Any:
        self.item_num += 1  # RecBole compares with this number
        try:
            return super().get_used_ids()
        finally:
            self.item_num -= 1


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
