"""Dataset and loaders of a run: ours for the models of this package, RecBole's own for RecBole's."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path
from pickle import UnpicklingError

from recbole.data import create_dataset as create_recbole_dataset
from recbole.data import data_preparation as prepare_recbole_data
from recbole.data.dataloader import NegSampleEvalDataLoader
from recbole.data.utils import create_samplers
from recbole.utils import ModelType, set_color

from recbole_ssm.data import cache
from recbole_ssm.data.atomic_files import check_atomic_files, check_times
from recbole_ssm.data.dataloader import (
    PackedFullSortEvalDataLoader,
    PackedNegSampleEvalDataLoader,
    PackedTrainDataLoader,
)
from recbole_ssm.data.dataset import (
    FIELDS_OF_BATCHES,
    PackedDataset,
    by_user_and_time,
    chronological_history,
    order_exactly,
)
from recbole_ssm.data.seen_filter import add_seen_filter
from recbole_ssm.data.shared import SharedCollate
from recbole_ssm.errors import InputError
from recbole_ssm.processes import rank, world_size
from recbole_ssm.recbole_warnings import recbole_warnings_hidden


@recbole_warnings_hidden()
def create_dataset(config, *, packed: bool, samples: bool = True):
    """The loaded and filtered dataset of a run, in the order that ``time_order`` asks for.

    Args:
        config: the configuration.
        packed: whether the model takes packed batches.
        samples: whether samples are to be made of it, which takes users with two interactions.

    Raises:
        InputError: files or columns are missing, nothing is left after filtering, or there can be no sample.
    """
    files = check_atomic_files(config)
    try:
        if packed and not _needs_recbole(config):
            dataset = _load_packed(config)
        else:
            for file in files:
                check_times(config, file)
            dataset = create_recbole_dataset(config)
    except (EOFError, UnpicklingError) as error:
        where = config["dataset_save_path"] or f"{config['checkpoint_dir']}/{config['dataset']}-*Dataset.pth"
        raise InputError(
            f"{where}, where save_dataset keeps dataset {config['dataset']!r}, cannot be read ({error}); remove it"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        if "feat is empty" not in str(error):
            raise InputError(f"dataset {config['dataset']!r} cannot be read: {str(error).splitlines()[0]}") from error
        raise InputError(
            f"dataset {config['dataset']!r} is empty after filtering; loosen user_inter_num_interval "
            f"({config['user_inter_num_interval']}), item_inter_num_interval ({config['item_inter_num_interval']}) "
            "or val_interval"
        ) from error
    if packed and (taken := sorted(FIELDS_OF_BATCHES & dataset.field2type.keys())):
        raise InputError(
            f"dataset {config['dataset']!r}: a column {taken[0]!r} would be taken for a field of packed batches; give "
            "it another name, or leave it out with unload_col"
        )
    dataset.config = config  # one that save_dataset kept brings the configuration of its own run
    if config["benchmark_filename"] is not None:
        return dataset
    if config["time_order"] == "exact" and dataset.time_field in dataset.inter_feat:
        order_exactly(dataset)
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        return dataset
    if samples:
        _check_history_lengths(dataset)
    return PackedDataset.from_loaded(dataset) if packed and not isinstance(dataset, PackedDataset) else dataset


def _load_packed(config) -> PackedDataset:
    """From its files, or as an earlier run has kept it."""
    file = cache.kept_file(config)
    kept = cache.find(file)
    dataset = PackedDataset(config, kept)
    if file is not None and kept is None:
        users, times = (dataset.inter_feat[field].to_numpy() for field in (dataset.uid_field, dataset.time_field))
        cache.keep(dataset, file, by_user_and_time(users, times))
    return dataset


def _needs_recbole(config) -> bool:
    """Whether the dataset is split already, or RecBole is to keep it in a file, or to find it there."""
    kept = config["dataset_save_path"] or Path(config["checkpoint_dir"]) / f"{config['dataset']}-SequentialDataset.pth"
    return config["benchmark_filename"] is not None or config["save_dataset"] or Path(kept).exists()


def _check_history_lengths(dataset) -> None:
    lengths = dataset.inter_feat[dataset.uid_field].value_counts()
    single = int((lengths == 1).sum())
    if single == len(lengths):
        raise InputError(
            f"dataset {dataset.dataset_name!r}: no user has more than one interaction, so there is nothing to predict; "
            "check USER_ID_FIELD and the filters"
        )
    if single:
        getLogger().warning(
            f"{single} of {len(lengths)} users have a single interaction: no sample can be made of them. "
            "user_inter_num_interval: '[2,inf)' removes them."
        )


def data_preparation(config, dataset):
    """Split a dataset and make its loaders.

    Args:
        config: the configuration.
        dataset: from :func:`create_dataset`.

    Returns:
        Loaders of training, validation and test data.
    """
    filters = config["filter_seen"] and config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    history = chronological_history(dataset) if filters else None
    if isinstance(dataset, PackedDataset):
        loaders = _packed_loaders(config, dataset)
    else:
        loaders = prepare_recbole_data(config, dataset)
        if world_size() > 1:
            loaders[0].collate_fn = SharedCollate(loaders[0].collate_fn, rank(), world_size())
    if filters:
        add_seen_filter(loaders, *history)
    return loaders


def _packed_loaders(config, dataset: PackedDataset):
    splits = dataset.build()
    if not len(splits[0]):
        raise InputError(
            f"dataset {dataset.dataset_name!r}: the split {config['eval_args']['split']} leaves no training sample"
        )
    samplers = create_samplers(config, dataset, splits)
    train = PackedTrainDataLoader(config, splits[0], samplers[0], shuffle=config["shuffle"])
    evaluation = []
    for phase, split, sampler in zip(("valid", "test"), splits[1:], samplers[1:], strict=True):
        mode = config["eval_args"]["mode"][phase]
        if mode == "full":
            loader = PackedFullSortEvalDataLoader
        elif mode == "labeled":
            loader = NegSampleEvalDataLoader
        else:
            loader = PackedNegSampleEvalDataLoader
        evaluation.append(loader(config, split, sampler, shuffle=False))
    getLogger().info(
        f"{set_color('[Training]: ', 'pink')}{config['train_samples']}, {len(train)} batches per epoch; "
        f"{set_color('[Evaluation]: ', 'pink')}{config['eval_args']}"
    )
    return train, *evaluation
