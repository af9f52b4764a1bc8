"""From a configuration to a loaded and filtered dataset."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from pickle import UnpicklingError

from recbole.data import create_dataset as create_recbole_dataset
from recbole.utils import ModelType

from recbole_ssm.config import Config
from recbole_ssm.data import cache
from recbole_ssm.data.atomic_files import check_atomic_files, dataset_files
from recbole_ssm.data.cold_items import with_cold_items
from recbole_ssm.data.dataset import FIELDS_OF_BATCHES, PackedDataset
from recbole_ssm.data.order import by_user_and_time, order_in_time
from recbole_ssm.data.pickles import is_trusted, only_trusted_pickles
from recbole_ssm.data.presplit import load_presplit
from recbole_ssm.data.recbole_datasets import SplitAsSequences, dataset_class, load, mixed_with
from recbole_ssm.data.recbole_types import Dataset
from recbole_ssm.data.temporal import SplitInTime
from recbole_ssm.errors import InputError
from recbole_ssm.system.console_log import recbole_warnings_hidden


@recbole_warnings_hidden()
def create_dataset(config: Config, *, packed: bool, samples: bool = True) -> Dataset:
    """The loaded and filtered dataset of a run, in the order that ``time_order`` asks for.

    Args:
        config: the configuration.
        packed: whether the model takes packed batches.
        samples: whether samples will be made of it, which needs a user with two interactions.

    Returns:
        RecBole's dataset for the model, not yet built; a :class:`PackedDataset` for packed batches.

    Raises:
        InputError: files or columns are missing, nothing is left after filtering, or there can be no sample.
    """
    check_atomic_files(config)
    with _input_errors(config):
        dataset = _load(config, packed=packed)
    dataset.config = config  # a pickled one brings the configuration of its own run
    if packed:
        _check_names(dataset)
    if config.benchmark_filename is not None:
        return dataset
    if config.eval_args["order"] == "TO":
        order_in_time(config, dataset)
    if config.MODEL_TYPE != ModelType.SEQUENTIAL:
        if "LS" in config.eval_args["split"] and config.eval_args["order"] == "TO":
            dataset = mixed_with(SplitAsSequences, dataset)
    elif samples:
        _check_history_lengths(dataset)
    if packed and not isinstance(dataset, PackedDataset):
        dataset = PackedDataset.from_loaded(dataset)
    if samples and config.cold_items:
        return with_cold_items(dataset, config.cold_items)
    return mixed_with(SplitInTime, dataset) if samples and config.temporal is not None else dataset


@contextmanager
def _input_errors(config: Config) -> Iterator[None]:
    """Raise InputError, which names the dataset, in place of the errors that RecBole has for data it cannot use."""
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"dataset {config.dataset!r} cannot be read: there is no column {str(error.args[0])!r}"
        ) from error
    except (TypeError, ValueError) as error:
        raise InputError(f"dataset {config.dataset!r} cannot be read: {str(error).splitlines()[0]}") from error


def _load(config: Config, *, packed: bool) -> Dataset:
    if config.benchmark_filename is not None:
        return load_presplit(config, packed=packed)
    if is_trusted(config, "dataset_save_path"):
        return _load_trusted(config)
    return _load_packed(config) if packed else _load_with_recbole(config)


def _load_packed(config: Config) -> PackedDataset:
    """The dataset of a model of this package, from the cache or from its files."""
    file = cache.kept_file(config, PackedDataset.__name__)
    kept = cache.find(file) or cache.find_imported(config, PackedDataset.__name__)
    dataset = PackedDataset(config, kept)
    if file is not None and kept is None:
        users, times = (dataset.inter_feat[field].to_numpy() for field in (dataset.uid_field, dataset.time_field))
        cache.keep(dataset, file, by_user_and_time(users, times))
    return dataset


def _load_with_recbole(config: Config) -> Dataset:
    """RecBole's dataset for the model, from the cache or from its files."""
    kind, file = dataset_class(config), None
    if kind in cache.KINDS:
        file = cache.kept_file(config, kind.__name__)
    elif config.save_dataset or config.dataset_cache:
        getLogger().warning(f"the dataset of {config.model} cannot be kept: it is read from its files each time")
    kept = cache.find(file)
    dataset = load(kind, config, kept)
    if file is not None and kept is None:
        cache.keep(dataset, file)
    return dataset


def _load_trusted(config: Config) -> Dataset:
    """The dataset that RecBole has pickled as ``dataset_save_path``, which is trusted."""
    assert config.dataset_save_path is not None
    file = Path(config.dataset_save_path)
    if any(other.stat().st_mtime > file.stat().st_mtime for other in dataset_files(config)):
        getLogger().warning(
            f"dataset_save_path {file} is older than the files of dataset {config.dataset!r}, which may have "
            "changed since"
        )
    try:
        with only_trusted_pickles(config):
            loaded: Dataset = create_recbole_dataset(config)
            return loaded
    except (AttributeError, EOFError, ImportError, UnpicklingError) as error:
        raise InputError(f"dataset_save_path {file} cannot be read ({error}); remove it") from error


def _check_names(dataset: Dataset) -> None:
    """Raise InputError for a column that has the name of a field of packed batches."""
    if taken := sorted(FIELDS_OF_BATCHES & dataset.field2type.keys()):
        raise InputError(
            f"dataset {dataset.dataset_name!r}: a column {taken[0]!r} would be taken for a field of packed batches; "
            "give it another name, or leave it out with unload_col"
        )


def _check_history_lengths(dataset: Dataset) -> None:
    """Warn of users with a single interaction; raise InputError where there are no others."""
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
            '--user_inter_num_interval="[2,inf)" removes them.'
        )
