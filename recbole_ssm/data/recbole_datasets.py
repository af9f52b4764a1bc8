"""RecBole's datasets of the kind that a model needs: loaded by this package's parser, or from the cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
import recbole.data.dataset as kinds
from pandas.api.types import is_float_dtype
from recbole.utils import FeatureSource, FeatureType, ModelType

from recbole_ssm.config import Config
from recbole_ssm.data.cache import Kept, restore
from recbole_ssm.data.reading import lines_of, read_columns, read_header
from recbole_ssm.data.recbole_types import Dataset
from recbole_ssm.errors import InputError


def dataset_class(config: Config) -> type[Dataset]:
    """RecBole's class of datasets for the model of a configuration."""
    of_type = {ModelType.SEQUENTIAL: kinds.SequentialDataset, ModelType.KNOWLEDGE: kinds.KnowledgeBasedDataset}
    return getattr(kinds, f"{config.model}Dataset", None) or of_type.get(config.MODEL_TYPE, Dataset)


def load(kind: type[Dataset], config: Config, kept: Kept | None = None) -> Dataset:
    """RecBole's dataset of a class, from the cache or from its files.

    Args:
        kind: the class.
        config: the configuration.
        kept: from :func:`recbole_ssm.data.cache.find`; None for a dataset from its files.

    Returns:
        The dataset, of exactly this class: RecBole can pickle it.
    """
    dataset = kind.__new__(kind)
    dataset.__dict__.update(type(kind.__name__, (FromCache, AtomicFiles, kind), {})(config, kept).__dict__)
    return dataset


class FromCache(Dataset):
    """Mixed into a dataset of RecBole: it may begin with what the cache has kept.

    Args:
        config: the configuration.
        kept: from :func:`recbole_ssm.data.cache.find`; None for a dataset from its files.
    """

    def __init__(self, config: Config, kept: Kept | None = None):
        self._kept = kept
        super().__init__(config)
        del self._kept

    def _from_scratch(self) -> None:
        if self._kept is None:
            super()._from_scratch()
            return
        self._get_preset()
        self._get_field_from_config()
        restore(self, self._kept)
        self._init_alias()


class AtomicFiles(Dataset):
    """Mixed into a dataset of RecBole: another parser of its files, and other rules for empty fields.

    RecBole's parser takes words such as ``NA`` and ``null`` for missing, and is slower. Where several lines have no
    user or no item, it drops other lines than those.
    """

    def _load_feat(self, filepath: str, source: FeatureSource | str) -> pd.DataFrame | None:
        load, leave = self._get_load_and_unload_col(source)
        if load == set():
            return None
        separator, encoding = self.config.field_separator, self.config.encoding
        wanted = {
            field: kind
            for field, kind in read_header(filepath, separator, encoding).items()
            if (load is None or field in load) and (leave is None or field not in leave)
        }
        if not wanted:
            getLogger().warning(f"no column of {filepath} is read")
            return None
        frame = read_columns(
            filepath,
            wanted,
            separator,
            encoding,
            seq_separator=self.config.seq_separator,
            marks_are_letters=source == FeatureSource.ITEM,
        )
        for field, kind in wanted.items():
            longest = self._shorten(frame, field) if kind.endswith("seq") else 1
            if source != "link":  # the columns of links have been read from other files
                self.set_field_property(field, FeatureType(kind), source, longest)
                if kind.startswith("float"):
                    self.field2bucketnum[field] = 2
        if source == FeatureSource.INTERACTION and self.time_field in wanted:
            _check_times(self.config, filepath, frame[self.time_field])
        if source == FeatureSource.INTERACTION:
            _check_columns(self.config, filepath, frame)
        return frame

    def _shorten(self, frame: pd.DataFrame, field: str) -> int:
        """Cut the lists of a column to ``seq_len``; returns the length of the longest one."""
        limit = (self.config.seq_len or {}).get(field)
        if limit:
            frame[field] = [values[:limit] for values in frame[field]]
        return max(map(len, frame[field]), default=0)

    def _reset_index(self) -> None:
        """RecBole's last step of filtering, which fails where nothing is left."""
        if any(getattr(self, name).empty for name in self.feat_name_list):
            raise InputError(
                f"dataset {self.dataset_name!r} is empty after filtering; loosen user_inter_num_interval "
                f"({self.config['user_inter_num_interval']}), item_inter_num_interval "
                f"({self.config['item_inter_num_interval']}) or val_interval"
            )
        super()._reset_index()

    def _normalize(self) -> None:
        """RecBole's, which fails where all values of a column of lists are the same."""
        fields = self.config.normalize_field or (self.float_like_fields if self.config.normalize_all else ())
        for field in fields:
            if self.field2type.get(field) != FeatureType.FLOAT_SEQ:
                continue
            values = np.concatenate([*self.field2feats(field)[0][field], []])
            if len(np.unique(values)) < 2:
                raise InputError(
                    f"column {field}:float_seq cannot be normalized: it has the same value everywhere; leave it out "
                    "with unload_col, or name the columns to normalize with normalize_field"
                )
        super()._normalize()

    def _filter_nan_user_or_item(self) -> None:
        for name, fields in (
            ("user", [self.uid_field]),
            ("item", [self.iid_field]),
            ("inter", [self.uid_field, self.iid_field]),
        ):
            feat = getattr(self, f"{name}_feat")
            if feat is None:
                continue
            missing = feat[fields].isna().any(axis=1)
            if missing.any():
                rows, file = feat.index[missing], Path(self.dataset_path) / f"{self.dataset_name}.{name}"
                lines = lines_of(file, rows[:10], self.config.field_separator, self.config.encoding)
                getLogger().warning(
                    f"{file.name}: {len(rows)} of {len(feat)} lines have no {' or no '.join(fields)}, "
                    f"and are left out: {', '.join(map(str, lines))}{' and others' * (len(rows) > 10)}"
                )
                feat.drop(rows, inplace=True)


def _check_times(config: Config, file: str | Path, times: pd.Series) -> None:
    """Raise InputError unless every line has a time where one is needed: RecBole would give it the mean of all.

    Args:
        config: the configuration.
        file: of interactions.
        times: their column of times, in the order of the lines.
    """
    if config.eval_args["order"] != "TO" or config.benchmark_filename is not None:
        return
    wrong = np.flatnonzero(~np.isfinite(times.to_numpy()))
    if len(wrong):
        (line,) = lines_of(file, wrong[:1].tolist(), config.field_separator, config.encoding)
        others = f" (and of {len(wrong) - 1} other lines)" if len(wrong) > 1 else ""
        value = "empty" if np.isnan(times.iloc[wrong[0]]) else times.iloc[wrong[0]]
        raise InputError(
            f"{file}, line {line}: {config.TIME_FIELD} is {value}, so that the place of the "
            f"interaction in time is unknown{others}; give it a time, or remove the line"
        )


def _check_columns(config: Config, file: str | Path, frame: pd.DataFrame) -> None:
    """Raise InputError for an infinite value in a column that the model reads; count those that are missing.

    RecBole gives a missing value the mean of all.

    Args:
        config: the configuration.
        file: of interactions.
        frame: what was read of it.
    """
    for field in dict.fromkeys(column.field(config) for column in config.columns):
        if field not in frame or not is_float_dtype(frame[field]):
            continue  # refused later
        values = frame[field].to_numpy()
        infinite = np.flatnonzero(np.isinf(values))
        if len(infinite):
            (line,) = lines_of(file, infinite[:1].tolist(), config.field_separator, config.encoding)
            raise InputError(
                f"{file}, line {line}: {field}, which {config.model} reads, is {values[infinite[0]]}; give it a "
                "finite number, or leave it empty for the mean of all"
            )
        missing = int(np.isnan(values).sum())
        if missing:
            getLogger().warning(
                f"{Path(file).name}: {missing} of {len(values)} lines have no {field}, which {config.model} reads; "
                "they get the mean of the others"
            )


def mixed_with(mixin: type[Dataset], dataset: Dataset) -> Dataset:
    """The same dataset, with methods of a mixin before those of its class."""
    kind = type(dataset)
    return as_kind(type(kind.__name__, (mixin, kind), {}), dataset)


def as_kind(kind: type[Dataset], dataset: Dataset) -> Dataset:
    """The same dataset as an object of another class."""
    same = object.__new__(kind)
    same.__dict__.update(dataset.__dict__)
    return same


class SplitAsSequences(Dataset):
    """Mixed into a dataset of RecBole: ``leave_one_out`` holds out the same items as for sequential models.

    A sequential model needs an item before a target, and one target to learn from. So the first two interactions of a
    user are never held out. RecBole by itself tests a general model on users with two interactions.
    """

    def _split_index_by_leave_one_out(
        self, grouped_index: Iterable[Sequence[int]], leave_one_num: int
    ) -> list[list[int]]:
        parts: list[list[int]] = [[] for _ in range(leave_one_num + 1)]
        for index in map(list, grouped_index):
            held_out = max(min(leave_one_num, len(index) - 2), 0)
            trained_on = len(index) - held_out
            parts[0].extend(index[:trained_on])
            for part, row in zip(parts[leave_one_num + 1 - held_out :], index[trained_on:], strict=True):
                part.append(row)
        return parts


def renumber_items(dataset: Dataset, names: Sequence[str]) -> None:
    """Give the items of a loaded, unbuilt dataset other numbers. RecBole numbers them as they come in the files.

    Args:
        dataset: for models that read nothing of an item but its number.
        names: of all its items, by their new number, ``[PAD]`` first.
    """
    field = dataset.iid_field
    number = {name: new for new, name in enumerate(names)}
    new = np.array([number[name] for name in dataset.field2id_token[field]])
    dataset.inter_feat[field] = new[dataset.inter_feat[field]]
    if dataset.item_feat is not None:
        dataset.item_feat[field] = new[dataset.item_feat[field]]
        dataset.item_feat = dataset.item_feat.sort_values(field, ignore_index=True)
    dataset.field2id_token[field] = np.array(names)
    dataset.field2token_id[field] = number
