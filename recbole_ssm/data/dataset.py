"""RecBole's sequential dataset without its N x L matrices: one flat history, and a range of it per sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_ssm.data import cache
from recbole_ssm.data.collate import pack_histories
from recbole_ssm.data.reading import AtomicFiles
from recbole_ssm.errors import InputError

HISTORY_START = "history_start"
"""Column of a sample: where its history begins in the flat history."""
HISTORY_END = "history_end"
"""Column of a sample: where its history ends in the flat history; its target stands there."""
FIELDS_OF_BATCHES = {HISTORY_START, HISTORY_END, "cu_seqlens", "seq_idx", "candidate_seq_idx", "cut", "readout"}
"""What a dataset's own columns would be taken for."""


class PackedDataset(cache.Kept, AtomicFiles, SequentialDataset):
    """The samples of RecBole's :class:`SequentialDataset`, in its order and with its splits, in O(interactions).

    RecBole copies every prefix of every user into padded matrices. Here ``history`` holds all interactions once,
    sorted by user and time, and a sample is its target's columns plus a range of ``history``. Filtering, splitting,
    caching and printing are RecBole's own code, and so is loading but for the parser of plain files.

    Args:
        config: the configuration.
        kept: what :mod:`recbole_ssm.data.cache` has kept of this dataset; None to load it from its files.

    Attributes:
        history: (n_interactions,) int64, items by user and time.
        history_columns: (n_interactions,) the columns that the model reads beside the items, in the order of
            ``history``, by their fields in a batch.
        user_start: (n_users,) int64, where each user begins in ``history``.
    """

    history_columns: dict[str, Tensor]

    @classmethod
    def from_loaded(cls, dataset: SequentialDataset) -> PackedDataset:
        """Take over a dataset that RecBole has loaded and filtered, but not yet built."""
        packed = cls.__new__(cls)
        packed.__dict__.update(dataset.__dict__)
        return packed

    def _change_feat_format(self) -> None:
        self.history_columns = self._read_columns()
        super()._change_feat_format()

    def _read_columns(self) -> dict[str, Tensor]:
        """The columns that the model names, from the loaded table: RecBole makes float32 of all numbers."""
        suffix = self.config["LIST_SUFFIX"]
        return {
            column.name + suffix: column.read(torch.from_numpy(self._numbers(column.field(self.config))))
            for column in self.config.columns
        }

    def _numbers(self, field: str) -> np.ndarray:
        """The values (n_interactions,) float64 of a column, as they were loaded."""
        self._check_is_number(field)
        return self.inter_feat[field].to_numpy(np.float64)

    def _check_is_number(self, field: str, kind: FeatureType = FeatureType.FLOAT) -> None:
        if field not in self.inter_feat:
            raise InputError(
                f"dataset {self.dataset_name!r} has no column {field!r}, which {self.config['model']} reads; add it to "
                "the .inter file, or to load_col where you give that"
            )
        if self.field2type[field] != kind:
            raise InputError(
                f"dataset {self.dataset_name!r}: {self.config['model']} reads the column {field!r} as numbers, but it "
                f"is {self.field2type[field].value}; write {field}:{kind.value} in the header of the file"
            )

    def data_augmentation(self) -> None:
        """Index every prefix of every user, where RecBole writes it out; order and truncation are the same."""
        self._check_field("uid_field", "time_field")
        users, times = (self.inter_feat[field].numpy() for field in (self.uid_field, self.time_field))
        order = by_user_and_time(users, times)
        self.inter_feat = self.samples(order, join=False)
        self.history_columns = {field: values[order] for field, values in self.history_columns.items()}
        users = self.inter_feat[self.uid_field]
        self.history = self.inter_feat[self.iid_field]
        self.user_start = torch.searchsorted(users, torch.arange(self.user_num))

        target = (users[1:] == users[:-1]).nonzero().squeeze(1) + 1
        start = self.user_start[users[target]]
        if self.max_item_list_len is not None:
            start = start.maximum(target - self.max_item_list_len)
        samples = {field: values[target] for field, values in self.inter_feat.interaction.items()}
        for field, values in (
            (self.item_list_length_field, target - start),
            (HISTORY_START, start),
            (HISTORY_END, target),
        ):
            samples[field] = values
            self.set_field_property(field, FeatureType.TOKEN, FeatureSource.INTERACTION, 1)
        self.inter_feat = Interaction(samples)

    def __getitem__(self, index, join: bool = True) -> Interaction:
        """The packed batch of the samples at ``index``, with user and item features as RecBole joins them."""
        return self.with_histories(self.samples(index, join))

    def with_histories(self, batch: Interaction, next_item_field: str | None = None) -> Interaction:
        """A batch of samples with their histories and columns; see :func:`recbole_ssm.data.collate.pack_histories`."""
        list_field = self.config["ITEM_ID_FIELD"] + self.config["LIST_SUFFIX"]
        return pack_histories(batch, self.history, list_field, next_item_field, self.history_columns)

    def samples(self, index, join: bool = True) -> Interaction:
        """The samples at ``index`` without their histories: one row for each."""
        rows = Interaction({field: values[index] for field, values in self.inter_feat.interaction.items()})
        return self.join(rows) if join else rows

    def leave_one_out(self, group_by: str | None, leave_one_mode: str) -> list[PackedDataset]:
        """RecBole's split, with its order of samples, but by arrays: it keeps a Python number for each sample."""
        if group_by is None:
            return super().leave_one_out(group_by, leave_one_mode)  # which says what is wrong
        self._drop_unused_col()
        rows, left = _by_group(self.inter_feat[group_by].numpy(), 2 if leave_one_mode == "valid_and_test" else 1)
        last, before = rows[left == 1], rows[left == 2]
        held_out = {"valid_and_test": (before, last), "valid_only": (last, before), "test_only": (before, last)}
        parts = (rows[left == 0], *held_out[leave_one_mode])
        return [self.copy(self.samples(torch.from_numpy(part), join=False)) for part in parts]

    def __getitems__(self, index):
        """Hand the row numbers of a batch through to the loader's collate function, which packs them at once."""
        return index

    def inter_matrix(self, form: str = "coo", value_field: str | None = None):
        """Users x items matrix of these samples' targets, and of each user's first item, which is never a target."""
        feat = self.inter_feat
        first = self.begins(feat)
        if value_field is not None and first.any():
            raise ValueError(f"values of [{value_field}] are not kept for the first interaction of a user")
        pairs = Interaction(
            {
                self.uid_field: torch.cat([feat[self.uid_field], feat[self.uid_field][first]]),
                self.iid_field: torch.cat([feat[self.iid_field], self.history[feat[HISTORY_START][first]]]),
            }
        )
        return self._create_sparse_matrix(pairs, self.uid_field, self.iid_field, form, None)

    def begins(self, samples: Interaction) -> Tensor:
        """Whether the history of each sample (S,) is its user's first item, and nothing more."""
        return samples[HISTORY_END] - 1 == self.user_start[samples[self.uid_field]]


def _by_group(groups: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows group by group, in the order in which the groups begin, and which of them are a group's last.

    Args:
        groups: (R,) the number of each row's group.
        n: how many of a group's last rows are told apart.

    Returns:
        rows (R,), and for each 1 to ``n`` if it is the last to n-th last of its group, but never the first, else 0.
    """
    size = np.bincount(groups)
    first = np.empty_like(size)
    first[groups[::-1]] = np.arange(len(groups))[::-1]  # of several, the last assignment stays
    rows = np.argsort(first[groups], kind="stable")
    groups = groups[rows]
    begins = np.flatnonzero(np.diff(groups, prepend=-1))
    size = size[groups]
    from_end = size - (np.arange(len(rows)) - np.repeat(begins, size[begins]))
    return rows, np.where(from_end <= np.minimum(n, size - 1), from_end, 0)


def split_as_sequences(dataset):
    """A loaded dataset of RecBole that is not sequential, with ``leave_one_out`` as it is for sequences."""
    kind = type(dataset)
    same = object.__new__(type(kind.__name__, (_SplitAsSequences, kind), {}))
    same.__dict__.update(dataset.__dict__)
    return same


class _SplitAsSequences:
    """Mixed into a dataset of RecBole: ``leave_one_out`` holds out what it does for sequences.

    A sequential model needs an item before a target, and one target to learn from. So a user's first two interactions
    are never held out, while RecBole by itself tests a general model on users with two.
    """

    def _split_index_by_leave_one_out(self, grouped_index, leave_one_num: int) -> list[list[int]]:
        parts = [[] for _ in range(leave_one_num + 1)]
        for index in map(list, grouped_index):
            held_out = max(min(leave_one_num, len(index) - 2), 0)
            trained_on = len(index) - held_out
            parts[0].extend(index[:trained_on])
            for part, row in zip(parts[leave_one_num + 1 - held_out :], index[trained_on:], strict=True):
                part.append(row)
        return parts


def by_user_and_time(users: np.ndarray, times: np.ndarray) -> np.ndarray | slice:
    """RecBole's order of a history: the rows sorted by user and time in float32, stably.

    Returns:
        their numbers (R,), or a slice of all if they are sorted so.
    """
    times = times.astype(np.float32)
    step = np.diff(users)
    if ((step > 0) | ((step == 0) & (np.diff(times) >= 0))).all():
        return slice(None)
    return np.lexsort((times, users))


def lost_order(users: np.ndarray, times: np.ndarray) -> tuple[int, int, int]:
    """What RecBole's order of a history makes of exact times.

    Args:
        users: (R,) the number of each row's user.
        times: (R,) float64, of the same rows.

    Returns:
        how many neighbours there are, two interactions of a user that follow each other; how many of them have times
        that differ, but not in float32, and so stand in the order of the rows; and how many users have another history
        than by exact times.
    """
    exact, rounded = np.lexsort((times, users)), np.lexsort((times.astype(np.float32), users))
    of, at = users[exact], times[exact]
    neighbours = of[1:] == of[:-1]
    lost = neighbours & (at[1:] != at[:-1]) & (np.diff(at.astype(np.float32)) == 0)
    return int(neighbours.sum()), int(lost.sum()), len(np.unique(of[exact != rounded]))


def order_exactly(dataset) -> None:
    """Put a loaded, unbuilt dataset in exact order of time, ties in the order of the file.

    RecBole sorts by float32 timestamps (steps of 64 seconds on Unix time), stably. Rounding does not change the order
    of what is sorted already, so after a sort in float64 RecBole's own keeps that order, for any of its datasets.
    """
    dataset.inter_feat = dataset.inter_feat.sort_values(dataset.time_field, kind="stable", ignore_index=True)


def renumber_items(dataset, names: Sequence[str]) -> None:
    """Give the items of a loaded, unbuilt dataset other numbers; RecBole has those of the order in which they came.

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


def chronological_history(dataset) -> tuple[Tensor, Tensor]:
    """All items by user and time, as RecBole will order them, of a loaded and unbuilt dataset.

    Returns:
        items (n_interactions,) int64 and where each user begins in them (n_users,) int64.
    """
    users = dataset.inter_feat[dataset.uid_field].to_numpy()
    start = np.searchsorted(np.sort(users), np.arange(dataset.user_num))
    return torch.from_numpy(chronological_column(dataset, dataset.iid_field)), torch.from_numpy(start)


def chronological_column(dataset, field: str) -> np.ndarray:
    """The values (n_interactions,) of a column, in the order of :func:`chronological_history`."""
    feat = dataset.inter_feat
    users, times = (feat[name].to_numpy() for name in (dataset.uid_field, dataset.time_field))
    return feat[field].to_numpy()[by_user_and_time(users, times)]
