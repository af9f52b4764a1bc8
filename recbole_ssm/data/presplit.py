"""Pre-split files (``benchmark_filename``): each line is a sample, a target with the history before it.

RecBole numbers the items of histories and targets apart unless ``alias_of_item_id`` names the column of histories, cuts
no history, and accepts any content. Here both have one numbering, the latest ``MAX_ITEM_LIST_LENGTH`` items are read,
and a line that must be a mistake is refused by file and number.
"""

from __future__ import annotations

import re
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_ssm.config import Config
from recbole_ssm.data.dataset import HISTORY_END, HISTORY_START, PackedDataset
from recbole_ssm.data.reading import lines_of
from recbole_ssm.data.recbole_datasets import AtomicFiles, dataset_class
from recbole_ssm.data.recbole_types import Dataset, SequentialDataset
from recbole_ssm.errors import InputError
from recbole_ssm.ops.packing import gather_ranges

_PADDING = frozenset({"0", "0.0", "-1", "pad", "padding"})
"""Tokens that people pad lists with, in lower case and without brackets."""


def load_presplit(config: Config, *, packed: bool) -> Dataset:
    """The dataset of the files that ``benchmark_filename`` names.

    Args:
        config: the configuration.
        packed: whether the model takes packed batches.

    Returns:
        The dataset, not yet built.

    Raises:
        InputError: a line has no user, target or history, or the histories hold padding or other things than items.
    """
    if packed:
        return PackedPresplitDataset(config)
    base = dataset_class(config)
    kind = Histories if issubclass(base, SequentialDataset) else OneNumbering
    dataset: Dataset = type(base.__name__, (kind, AtomicFiles, base), {})(config)
    return dataset


class OneNumbering(Dataset):
    """Mixed into a dataset of RecBole's: a column and the lists of its earlier values have one numbering."""

    @property
    def lists(self) -> dict[str, str]:
        """The columns that hold lists of another one's earlier values: ``item_id_list`` for ``item_id``."""
        pairs = ((field, field + self.config.LIST_SUFFIX) for field in self.inter_feat)
        return {field: of for field, of in pairs if of in self.inter_feat and self.field2type[of].value.endswith("seq")}

    def place(self, row: int) -> str:
        """File and line of a row of ``inter_feat``."""
        ends = np.cumsum(self.file_size_list)
        number = int(np.searchsorted(ends, row, side="right"))
        file = Path(self.dataset_path) / f"{self.dataset_name}.{self.benchmark_filename_list[number]}.inter"
        within = [row - ends[number] + self.file_size_list[number]]
        (line,) = lines_of(file, within, self.config.field_separator, self.config.encoding)
        return f"{file}, line {line}"

    def refuse(self, wrong: NDArray[np.bool_], what: str, remedy: str) -> None:
        """Raise InputError, which names the first file and line, if any row is wrong.

        Args:
            wrong: (n_lines,) by the rows of ``inter_feat``.
            what: what is wrong.
            remedy: what to do.
        """
        rows = np.flatnonzero(wrong)
        if len(rows):
            others = f" (and so in {len(rows) - 1} other lines)" if len(rows) > 1 else ""
            raise InputError(f"{self.place(rows[0])}: {what}{others}; {remedy}")

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        super()._load_inter_feat(token, dataset_path)
        for field in (self.uid_field, self.iid_field):
            missing = self.inter_feat[field].isna().to_numpy()
            self.refuse(missing, f"{field} is empty", "give it a value, or remove the line")

    def _set_alias(self, alias_name: str, default_value: list[str]) -> None:
        lists = [self.lists[field] for field in default_value if field in self.lists]
        super()._set_alias(alias_name, [*default_value, *lists])

    def _init_alias(self) -> None:
        super()._init_alias()
        for field, of in self.lists.items():
            if {field, of} <= set(self._rest_fields):
                self.alias[field] = np.array([field, of])
                self._rest_fields = np.setdiff1d(self._rest_fields, [field, of])


class Histories(OneNumbering, SequentialDataset):
    """Mixed into a sequential dataset of RecBole's; its lists become matrices as wide as ``MAX_ITEM_LIST_LENGTH``.

    Attributes:
        history: (N,) int64, the whole history of each line, and after it the line's target.
        history_end: (n_lines,) int64, the places of these targets.
    """

    history: Tensor
    history_end: Tensor

    @property
    def is_target(self) -> NDArray[np.bool_]:
        """(N,) whether an item of ``history`` is a line's target."""
        marks = np.zeros(len(self.history), dtype=bool)
        marks[self.history_end.numpy()] = True
        return marks

    @property
    def history_start(self) -> Tensor:
        """(n_lines,) int64, the place in ``history`` where each line's history begins."""
        return torch.cat([self.history_end.new_zeros(1), self.history_end[:-1] + 1])

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        super()._load_inter_feat(token, dataset_path)
        history, frame = self.lists[self.iid_field], self.inter_feat
        length = _lengths(frame[history])
        self.refuse(length == 0, f"{history} is empty", "remove the line: there is nothing to predict from")
        for field in self.lists.values():
            unequal = _lengths(frame[field]) != length
            self.refuse(unequal, f"{field} has more or fewer values than {history}", "give it one for each item")

    def _benchmark_presets(self) -> None:
        """RecBole calls this at the end of the constructor. Its own version needs a column named ``item_id``."""
        items, targets = self.inter_feat[self.lists[self.iid_field]], self.inter_feat[self.iid_field]
        length = _lengths(items)
        self.history_end = torch.from_numpy(np.cumsum(length + 1) - 1)
        history = np.empty(len(targets) + length.sum(), dtype=np.int64)
        self.history = torch.from_numpy(history)  # the same memory
        is_target = self.is_target
        history[is_target], history[~is_target] = targets, np.concatenate(items.to_numpy())
        self._check_items(history[~is_target], length)
        for field in self.lists.values():
            self.field2seqlen[field] = self.max_item_list_len
        self.set_field_property(self.item_list_length_field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat[self.item_list_length_field] = np.minimum(length, self.max_item_list_len or length)

    def _check_items(self, items: NDArray[np.int64], length: NDArray[np.int64]) -> None:
        """Refuse lists that hold padding, or several items in one token.

        Args:
            items: (N,) of all lists, by their numbers.
            length: (n_lines,) of each list.
        """
        column, separator = self.lists[self.iid_field], self.config.seq_separator
        names, targets = self.field2id_token[self.iid_field], self.inter_feat[self.iid_field].to_numpy()
        is_target = np.bincount(targets, minlength=len(names)) > 0
        for item in np.flatnonzero(~is_target[1:]) + 1:
            if str(names[item]).strip("[]<>").lower() in _PADDING and _stands_at_ends(items == item, length):
                self.refuse(
                    _holds(items == item, length),
                    f"{column} is padded with {str(names[item])!r}, which is only at one end of lists and is "
                    "never a target",
                    "take it out: lists need not be equally long",
                )
        joined = _joined(names, is_target)
        if joined[items].mean() > 0.1:
            self.refuse(
                _holds(joined[items], length),
                f"{column} holds {str(names[items[joined[items]][0]])!r}, which is never a target, while its parts are",
                f"set --seq_separator, now {separator!r}, to what separates two items, or write the lists with it",
            )
        if is_target[items].mean() < 0.1:
            getLogger().warning(
                f"almost no item of {column} is ever a target: {is_target[items].sum()} of {len(items)} in the lists; "
                f"are they separated by {separator!r} (seq_separator), and named as in {self.iid_field}?"
            )
        self._tell_unknown(names, targets)

    def _tell_unknown(self, names: NDArray[np.str_], targets: NDArray[np.int64]) -> None:
        """Warn of targets for validation and test that the training file does not hold."""
        known, ends = np.zeros(len(names), dtype=bool), np.cumsum(self.file_size_list)
        known[self.history[: self.history_end[ends[0] - 1] + 1].numpy()] = True
        for name, start, end in zip(self.benchmark_filename_list[1:], ends, ends[1:], strict=False):
            unknown = int((~known[targets[start:end]]).sum())
            if unknown:
                getLogger().warning(
                    f"{unknown} of {end - start} targets in {self.dataset_name}.{name}.inter are not in the training "
                    "file, so that no model can learn them"
                )

    def _change_feat_format(self) -> None:
        super()._change_feat_format()
        self.inter_feat[HISTORY_END] = self.history_end  # a loader may sort the lines

    def _dataframe_to_interaction(self, data: pd.DataFrame) -> Interaction:
        lists = [field for field in self.lists.values() if field in data]
        interaction = super()._dataframe_to_interaction(data.drop(columns=lists))
        for field in lists:
            interaction[field] = self._matrix(field, data[field])
        return interaction

    def _matrix(self, field: str, lists: pd.Series) -> Tensor:
        """The latest values of each list, (n_lines, MAX_ITEM_LIST_LENGTH), padded with 0; int64, or float32."""
        width = self.max_item_list_len
        if field in self.config.numerical_features:  # RecBole gives each value an index
            lists = [np.stack(pair, axis=-1) for pair in lists]
        latest = [np.asarray(values)[-width:] for values in lists]
        values = torch.from_numpy(np.concatenate(latest))
        values = values.long() if self.field2type[field] == FeatureType.TOKEN_SEQ else values.float()
        filled = torch.arange(width) < torch.tensor([len(each) for each in latest])[:, None]
        matrix = values.new_zeros(len(latest), width, *values.shape[1:])
        matrix[filled] = values
        return matrix


class PackedPresplitDataset(Histories, PackedDataset):
    """The lines of such files as samples of packed batches: each history is a range of the flat one."""

    def _change_feat_format(self) -> None:
        start, end = self.history_start, self.history_end
        if self.max_item_list_len is not None:
            start = start.maximum(end - self.max_item_list_len)
        super()._change_feat_format()
        self.inter_feat[HISTORY_START] = start

    def _read_columns(self) -> dict[str, Tensor]:
        columns = super()._read_columns()
        for field in self.lists.values():  # a sample is a range of the flat history
            self._del_col(self.inter_feat, field)
        return columns

    def _numbers(self, field: str) -> NDArray[np.float64]:
        """The values of a column in the order of ``history``: those of each line's list, and then its own."""
        self._check_is_number(field)
        of_lists = self.config.LIST_SUFFIX
        self._check_is_number(field + of_lists, FeatureType.FLOAT_SEQ)
        values, is_target = np.empty(len(self.history), dtype=np.float64), self.is_target
        values[is_target] = self.inter_feat[field]
        values[~is_target] = np.concatenate(self.inter_feat[field + of_lists].to_numpy())
        return values

    def whole_sequences(self) -> tuple[Tensor, Tensor]:
        """The longest line of each user in this split, with its target; other lines may repeat parts of it."""
        users, start, end = (self.inter_feat[name] for name in (self.uid_field, HISTORY_START, HISTORY_END))
        order = (end - start).argsort(stable=True)
        order = order[users[order].argsort(stable=True)]
        rows = order[users[order].unique_consecutive(return_counts=True)[1].cumsum(0) - 1]
        index, cu_seqlens = gather_ranges(start[rows], end[rows] + 1 - start[rows])
        return self.history[index], cu_seqlens

    def sequences_to_targets(self) -> tuple[Tensor, Tensor, Tensor]:
        """As of data that are split here, but for a sequence for each line: its history, and its target as the last."""
        start, end = self.inter_feat[HISTORY_START], self.inter_feat[HISTORY_END]
        index, cu_seqlens = gather_ranges(start, end + 1 - start)
        is_target = torch.zeros(len(index), dtype=torch.bool).index_fill(0, cu_seqlens[1:].long() - 1, True)
        return self.history[index], cu_seqlens, is_target

    def begins(self, samples: Interaction) -> Tensor:
        """As RecBole has it: a history of one item is a user's first."""
        return samples[HISTORY_END] - samples[HISTORY_START] == 1


def _lengths(lists: pd.Series) -> NDArray[np.int64]:
    return np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))


def _holds(marked: NDArray[np.bool_], length: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which lists, (n_lines,), hold a marked value; ``marked`` is (N,), of all lists one after another."""
    return np.bincount(np.repeat(np.arange(len(length)), length)[marked], minlength=len(length)) > 0


def _joined(names: NDArray[np.str_], is_target: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which items, (n_items,), are never a target, while most parts of their names are names of targets."""
    known = set(names[is_target])
    joined = np.zeros(len(names), dtype=bool)
    for item in np.flatnonzero(~is_target[1:]) + 1:
        parts = [part for part in re.split(r"[\s,;|/()\[\]'\"]+", names[item]) if part]
        joined[item] = parts != [names[item]] and 2 * sum(part in known for part in parts) >= len(parts)
    return joined


def _stands_at_ends(marked: NDArray[np.bool_], length: NDArray[np.int64]) -> bool:
    """Whether marked values fill the same end of all lists that have one, and a list has two or more.

    Args:
        marked: (N,) which values are marked, of all lists one after another.
        length: (n_lines,) of each list, 1 or more.

    Returns:
        False also where no list has two marked values: a single one may be there by chance.
    """
    first = np.cumsum(length) - length
    count = np.add.reduceat(marked.astype(np.int64), first)
    place = np.arange(len(marked)) - np.repeat(first, length)
    from_end = np.repeat(length, length) - 1 - place
    count_here = np.repeat(count, length)
    at_ends = [(marked <= (distance < count_here)).all() for distance in (place, from_end)]
    return any(at_ends) and count.max() > 1
