"""Dataset and loaders of a run: ours for the models of this package, RecBole's own for RecBole's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
from recbole.data import create_dataset as create_recbole_dataset
from recbole.data import data_preparation as prepare_recbole_data
from recbole.data.dataloader import NegSampleEvalDataLoader
from recbole.data.utils import create_samplers
from recbole.utils import ModelType, set_color

from recbole_ssm.data import cache
from recbole_ssm.data.atomic_files import check_atomic_files, dataset_files
from recbole_ssm.data.candidates import FixedCandidates
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
    lost_order,
    order_exactly,
    split_as_sequences,
)
from recbole_ssm.data.presplit import load_presplit
from recbole_ssm.data.reading import dataset_class
from recbole_ssm.data.seen_filter import Seen, add_seen_filter, seen_in_lists, seen_in_sequences, seen_in_splits
from recbole_ssm.data.shares import SharedCollate
from recbole_ssm.errors import InputError
from recbole_ssm.system.distributed import rank, world_size
from recbole_ssm.system.terminal import recbole_warnings_hidden


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
    check_atomic_files(config)
    try:
        if config["benchmark_filename"] is not None:
            dataset = load_presplit(config, packed=packed)
        elif packed and not _trusted(config, "dataset_save_path"):
            dataset = _load_packed(config)
        else:
            dataset = _load_with_recbole(config)
    except InputError:
        raise
    except (AttributeError, EOFError, ImportError, UnpicklingError) as error:
        if not _trusted(config, "dataset_save_path"):
            raise
        raise InputError(
            f"dataset_save_path {config['dataset_save_path']} cannot be read ({error}); remove it"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        if "feat is empty" not in str(error):
            what = (
                f"there is no column {str(error.args[0])!r}"
                if isinstance(error, KeyError)
                else str(error).splitlines()[0]
            )
            raise InputError(f"dataset {config['dataset']!r} cannot be read: {what}") from error
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
    dataset.config = config  # one of dataset_save_path brings the configuration of its own run
    if config["benchmark_filename"] is not None:
        return dataset
    if config["eval_args"]["order"] == "TO":
        _order_in_time(config, dataset)
    if config["MODEL_TYPE"] != ModelType.SEQUENTIAL:
        if "LS" in config["eval_args"]["split"] and config["eval_args"]["order"] == "TO":
            return split_as_sequences(dataset)
        return dataset
    if samples:
        _check_history_lengths(dataset)
    return PackedDataset.from_loaded(dataset) if packed and not isinstance(dataset, PackedDataset) else dataset


def _load_packed(config) -> PackedDataset:
    """From its files, or as an earlier run has kept it."""
    file = cache.kept_file(config, PackedDataset.__name__)
    kept = cache.find(file)
    dataset = PackedDataset(config, kept)
    if file is not None and kept is None:
        users, times = (dataset.inter_feat[field].to_numpy() for field in (dataset.uid_field, dataset.time_field))
        cache.keep(dataset, file, by_user_and_time(users, times))
    return dataset


def _load_with_recbole(config):
    """RecBole's dataset for the model, likewise; one of ``dataset_save_path`` only if it is trusted."""
    kind, file = dataset_class(config), None
    if _trusted(config, "dataset_save_path"):
        _warn_if_stale(config)
        with _nothing_unpickled(config):
            return create_recbole_dataset(config)
    if kind in cache.KINDS:
        file = cache.kept_file(config, kind.__name__)
    elif config["save_dataset"] or config["dataset_cache"]:
        getLogger().warning(f"a dataset as {config['model']} needs it cannot be kept: it is read anew each time")
    kept = cache.find(file)
    dataset = cache.load(kind, config, kept)
    if file is not None and kept is None:
        cache.keep(dataset, file)
    return dataset


def _trusted(config, key: str) -> bool:
    """Whether a file of Python objects is named that there is, which ``trust_dataset`` then allows to be read.

    Raises:
        InputError: it does not.
    """
    if not config[key] or not Path(config[key]).exists():
        return False
    if not config["trust_dataset"]:
        raise InputError(
            f"{key} {config[key]} holds Python objects, and reading those runs code that stands in the file; if you "
            "trust where it comes from, say --trust_dataset. save_dataset and dataset_cache keep data only"
        )
    return True


@contextmanager
def _nothing_unpickled(config) -> Iterator[None]:
    """RecBole finds no dataset and no loaders of an earlier run, which it would unpickle, but those that are trusted.

    It looks in ``checkpoint_dir`` where no file is named: here always one is, of a name that no file can have. Nor
    does it pickle the dataset: ``save_dataset`` keeps it as ``dataset_cache`` does.
    """
    keys = ("dataset_save_path", "dataloaders_save_path", "save_dataset")
    before = {key: config[key] for key in keys}
    config["save_dataset"] = False
    for key in keys[:2]:
        if not _trusted(config, key):
            config[key] = "\0"
    try:
        yield
    finally:
        for key, value in before.items():
            config[key] = value


def _warn_if_stale(config) -> None:
    kept = Path(config["dataset_save_path"]).stat().st_mtime
    if any(file.stat().st_mtime > kept for file in dataset_files(config)):
        getLogger().warning(
            f"dataset_save_path {config['dataset_save_path']} is older than the files of dataset "
            f"{config['dataset']!r}, which may have changed since"
        )


def _order_in_time(config, dataset) -> None:
    """Sort the interactions by exact times, or say what RecBole's order, which it will make later, loses of it."""
    if config["time_order"] == "exact":
        order_exactly(dataset)
        _warn_of_large_times(dataset)
        return
    users, times = (dataset.inter_feat[field].to_numpy() for field in (dataset.uid_field, dataset.time_field))
    neighbours, lost, histories = lost_order(users, times)
    if lost:
        getLogger().warning(
            f"time_order: recbole: {lost:,} of {neighbours:,} neighbouring interactions of a user have different times "
            f"that are equal in float32, and so keep the order of the file; {histories:,} of {dataset.user_num - 1:,} "
            "users have another history than by their times. time_order: exact keeps the order in time"
        )


def _warn_of_large_times(dataset) -> None:
    """From 2**53 on float64 has not every whole number, so that times such as nanoseconds can become equal."""
    times = dataset.inter_feat[dataset.time_field]
    large = times.abs() >= 2**53
    equal = int((large & dataset.inter_feat.duplicated([dataset.uid_field, dataset.time_field], keep=False)).sum())
    if equal:
        getLogger().warning(
            f"{equal:,} interactions have the same {dataset.time_field} as another of their user, as numbers so large "
            f"that float64 has only each {np.spacing(times[large].abs().max()):g}th: if they differ in the file, their "
            "order is lost. Give times in a larger unit, such as seconds"
        )


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
            '--user_inter_num_interval="[2,inf)" removes them.'
        )


def check_topk(config, dataset) -> None:
    """Raise InputError if there are fewer items than a metric looks at."""
    if max(config["topk"]) > dataset.item_num:
        raise InputError(f"topk {max(config['topk'])} asks for more than the {dataset.item_num - 1} items there are")


def data_preparation(config, dataset):
    """Split a dataset and make its loaders.

    Args:
        config: the configuration.
        dataset: from :func:`create_dataset`.

    Returns:
        Loaders of training, validation and test data.
    """
    _check_catalogue(config, dataset)
    sequential, presplit = config["MODEL_TYPE"] == ModelType.SEQUENTIAL, config["benchmark_filename"] is not None
    history = chronological_history(dataset) if sequential and config["filter_seen"] and not presplit else None
    interacted = np.bincount(dataset.inter_feat[dataset.iid_field].to_numpy(), minlength=dataset.item_num)
    try:
        if isinstance(dataset, PackedDataset):
            loaders = _packed_loaders(config, dataset)
        else:
            with _nothing_unpickled(config):
                loaders = prepare_recbole_data(config, dataset)
    except ValueError as error:
        if isinstance(error, InputError) or "negative" not in str(error):
            raise
        raise InputError(f"dataset {dataset.dataset_name!r}: {error}") from error
    if world_size() > 1 and not isinstance(dataset, PackedDataset):
        loaders[0].collate_fn = SharedCollate(loaders[0].collate_fn, rank(), world_size())
    if config["model"] == "Pop" and config["train_neg_sample_args"]["distribution"] == "none":
        _hold_no_item_twice(loaders[0])
    _rank_alike(config, loaders, history, interacted)
    return loaders


def _hold_no_item_twice(loader) -> None:
    """Give a training loader other batches: of each item the first row, then of each the second, and so on.

    RecBole's Pop counts an item once for each batch that holds it.
    """
    items = loader._dataset.inter_feat[loader._dataset.iid_field].numpy()
    rows = np.argsort(items, kind="stable")
    number = np.empty(len(items), dtype=np.int64)
    number[rows] = np.arange(len(items)) - np.searchsorted(items[rows], items[rows])
    ends = np.cumsum(np.bincount(number))
    batches = np.split(np.argsort(number, kind="stable"), ends[:-1])
    vars(loader)["batch_sampler"] = batches  # which torch lets nobody set once a loader is made


def _check_catalogue(config, dataset) -> None:
    """Raise InputError where items are to be drawn and there is but one, for RecBole would draw for ever."""
    drawn = {"train_neg_sample_args": config["train_neg_sample_args"]["distribution"] != "none"}
    drawn["eval_args"] = any(mode.startswith(("uni", "pop")) for mode in config["eval_args"]["mode"].values())
    if dataset.item_num <= 2 and any(drawn.values()):
        asks = next(key for key, draws in drawn.items() if draws)
        raise InputError(
            f"dataset {dataset.dataset_name!r} has a single item, so that there is no other to draw, as {asks} asks for"
        )


def _rank_alike(config, loaders, history, interacted: np.ndarray) -> None:
    """Make evaluation the same for models of every kind: what was seen is filtered or not, and candidates are fixed.

    Each loader gets ``share_repeated``: which part of its targets their users have had before; None where items of the
    history are ranked like all others.
    """
    if history is not None:
        seen = seen_in_sequences(loaders, *history)
    elif not config.excludes_seen:
        seen = None, None
    else:
        seen = seen_in_lists(loaders) if config["MODEL_TYPE"] == ModelType.SEQUENTIAL else seen_in_splits(loaders)
    for number, (loader, seen_before) in enumerate(zip(loaders[1:], seen, strict=True)):
        mode = config["eval_args"]["mode"][("valid", "test")[number]]
        if mode.startswith(("uni", "pop")) and len(loader._dataset):
            weights = interacted if mode.startswith("pop") else np.arange(len(interacted)) > 0
            excluded = _excluded(config, loader, seen_before)
            loader._sampler = FixedCandidates(config["seed"], number, weights, excluded)
            targets = loader._dataset.inter_feat[loader._dataset.iid_field].numpy()
            for user in loader.uid_list:  # before the training
                loader._sampler.left_out(user, targets[loader.uid2index[user]])
        if config["filter_seen"]:
            add_seen_filter(loader, seen_before)
        loader.share_repeated = None if seen_before is None else seen_before.share_repeated()
    if seen[1] is not None and seen[1].repeated.any():
        getLogger().warning(
            f"{loaders[2].share_repeated:.1%} of the test targets are items that their users have had before. "
            + config.rule_of_seen
        )


def _excluded(config, loader, seen: Seen | None) -> Callable[[int], np.ndarray]:
    """What is not drawn as a candidate for a user."""
    if config["filter_seen"]:
        rows = {user: range(loader.uid2index[user].start, loader.uid2index[user].stop) for user in loader.uid_list}
        return lambda user: np.concatenate([seen.of_row(row).numpy() for row in rows[user]])
    if config.excludes_seen:
        used = loader._sampler.used_ids
        return lambda user: np.fromiter(used[user], np.int64)
    return lambda user: np.empty(0, np.int64)


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
