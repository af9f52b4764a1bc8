"""RecBole's sequential dataset without its N x L matrices: one flat history, and a range of it for each sample."""

from __future__ import annotations

from copy import copy
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch import Tensor

from recbole_ssm.config.settings import names_in
from recbole_ssm.data.collate import pack_histories
from recbole_ssm.data.item_content import as_embeddings, item_content
from recbole_ssm.data.item_text import item_texts
from recbole_ssm.data.order import by_user_and_time
from recbole_ssm.data.recbole_datasets import AtomicFiles, FromCache
from recbole_ssm.data.recbole_types import Dataset, SequentialDataset
from recbole_ssm.errors import InputError
from recbole_ssm.model.content import START
from recbole_ssm.model.packed_input import SEEN_ITEMS, SEEN_ROWS
from recbole_ssm.ops.packing import gather_ranges

HISTORY_START = "history_start"
"""Column of a sample: where its history begins in the flat history."""
HISTORY_END = "history_end"
"""Column of a sample: where its history ends in the flat history, which is the place of its target."""
FIELDS_OF_BATCHES = frozenset(
    {HISTORY_START, HISTORY_END, SEEN_ROWS, SEEN_ITEMS, "cu_seqlens", "seq_idx", "candidate_seq_idx", "cut", "readout"}
)
"""The fields of packed batches: no column of a dataset may have one of these names."""

Rows = TypeVar("Rows")


class PackedDataset(FromCache, AtomicFiles, SequentialDataset):
    """The samples of RecBole's :class:`SequentialDataset`, in its order and with its splits, in O(interactions).

    RecBole copies every prefix of every user into padded matrices. Here ``history`` holds all interactions once, sorted
    by user and time. A sample is its target's columns and a range of ``history``. Filtering, splitting and printing are
    RecBole's own code.

    Args:
        config: the configuration.
        kept: from :func:`recbole_ssm.data.cache.find`; None for a dataset from its files.

    Attributes:
        history: (n_interactions,) int64, items by user and time.
        history_columns: (n_interactions,) the columns that the model reads beside the items, in the order of
            ``history``, by their fields in a batch.
        user_start: (n_users,) int64, where each user begins in ``history``.
        packs: whether ``[]`` gives samples with their histories. Without these RecBole can repeat their rows.
    """

    history: Tensor
    history_columns: dict[str, Tensor]
    user_start: Tensor
    packs = True

    @classmethod
    def from_loaded(cls, dataset: Dataset) -> PackedDataset:
        """Take over a dataset that RecBole has loaded and filtered, and not yet built."""
        packed = cls.__new__(cls)
        packed.__dict__.update(dataset.__dict__)
        return packed

    def _change_feat_format(self) -> None:
        self.history_columns = self._read_columns()
        super()._change_feat_format()

    def _read_columns(self) -> dict[str, Tensor]:
        """The columns that the model names, from the loaded table: RecBole makes float32 of all numbers."""
        suffix = self.config.LIST_SUFFIX
        return {
            column.name + suffix: column.values(torch.from_numpy(self._numbers(column.field(self.config))))
            for column in self.config.columns
        }

    def _numbers(self, field: str) -> NDArray[np.float64]:
        """The values (n_interactions,) of a column, as they were loaded."""
        self._check_is_number(field)
        numbers: NDArray[np.float64] = self.inter_feat[field].to_numpy(np.float64)
        return numbers

    def _check_is_number(self, field: str, kind: FeatureType = FeatureType.FLOAT) -> None:
        if field not in self.inter_feat:
            raise InputError(
                f"dataset {self.dataset_name!r} has no column {field!r}, which {self.config.model} reads; add it to "
                "the .inter file, or to load_col where you give that"
            )
        if self.field2type[field] != kind:
            raise InputError(
                f"dataset {self.dataset_name!r}: {self.config.model} reads the column {field!r} as numbers, but it "
                f"is {self.field2type[field].value}; write {field}:{kind.value} in the header of the file"
            )

    def data_augmentation(self) -> None:
        """Index every prefix of every user, where RecBole writes it out. Order and truncation are the same."""
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

    def __getitem__(self, index: Any, join: bool = True) -> Interaction:
        """The packed batch of the samples at ``index``, with user and item features as RecBole joins them."""
        rows = self.samples(index, join)
        return self.with_histories(rows) if self.packs else rows

    def packing(self, packs: bool) -> PackedDataset:
        """The same samples, with or without their histories in what ``[]`` gives."""
        other = copy(self)
        other.packs = packs
        return other

    def with_histories(
        self, batch: Interaction, next_item_field: str | None = None, n_tokens: int | None = None
    ) -> Interaction:
        """A batch of samples with their histories and columns; see :func:`recbole_ssm.data.collate.pack_histories`."""
        list_field = self.config.ITEM_ID_FIELD + self.config.LIST_SUFFIX
        return pack_histories(batch, self.history, list_field, next_item_field, self.history_columns, n_tokens)

    def with_history_on(self, device: torch.device) -> PackedDataset:
        """The same samples with histories and columns on a device; batches that are there can get their histories."""
        there = copy(self)
        there.history = self.history.to(device)
        there.history_columns = {field: values.to(device) for field, values in self.history_columns.items()}
        return there

    def samples(self, index: Any, join: bool = True) -> Interaction:
        """The samples at ``index`` without their histories: one row for each."""
        rows = Interaction({field: values[index] for field, values in self.inter_feat.interaction.items()})
        return self.join(rows) if join else rows

    def leave_one_out(self, group_by: str | None, leave_one_mode: str) -> list[PackedDataset]:
        """RecBole's split, with its order of samples, by arrays: RecBole keeps a Python integer for each sample."""
        if group_by is None:
            return super().leave_one_out(group_by, leave_one_mode)  # which raises an error
        self._drop_unused_col()
        rows, left = _by_group(self.inter_feat[group_by].numpy(), 2 if leave_one_mode == "valid_and_test" else 1)
        last, before = rows[left == 1], rows[left == 2]
        held_out = {"valid_and_test": (before, last), "valid_only": (last, before), "test_only": (before, last)}
        parts = (rows[left == 0], *held_out[leave_one_mode])
        return [self.copy(self.samples(torch.from_numpy(part), join=False)) for part in parts]

    def __getitems__(self, index: Rows) -> Rows:
        """Hand the row numbers of a batch on to the loader's collate function, which packs all of them at once."""
        return index

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """The users x items matrix of the samples' targets and of each user's first item, which is never a target."""
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

    def last_samples(self) -> Tensor:
        """The row of each user's last sample, whose history and target are the user's whole sequence in this split.

        Returns:
            (S,) int64, user by user.

        Raises:
            InputError: the split leaves a gap: between a user's first and last target is one of another split.
        """
        order = self.inter_feat[self.uid_field].argsort(stable=True)  # each user's samples, in order of time
        users, counts = self.inter_feat[self.uid_field][order].unique_consecutive(return_counts=True)
        rows = order[counts.cumsum(0) - 1]
        length = self.inter_feat[HISTORY_END][rows] - self.user_start[users]
        if not torch.equal(length, counts):
            raise InputError(
                "train_samples: whole_sequence and prefix_lm, and models that count, need each user's training "
                "interactions to be the beginning of the history. This split (eval_args) leaves gaps: use another "
                "one, or for a model that is trained train_samples: all_prefixes"
            )
        return rows

    def whole_sequences(self) -> tuple[Tensor, Tensor]:
        """The sequence of each user in this split, from the first item to the last target.

        Returns:
            items (T,) int64, the oldest of each user first, and ``cu_seqlens`` (S + 1,) int32.
        """
        rows = self.last_samples()
        start = self.user_start[self.inter_feat[self.uid_field][rows]]
        index, cu_seqlens = gather_ranges(start, self.inter_feat[HISTORY_END][rows] + 1 - start)
        return self.history[index], cu_seqlens

    def item_content(self) -> tuple[Tensor, Tensor]:
        """What is known of items beside their ids.

        Returns:
            Vectors (n_items, d) float32, see :mod:`recbole_ssm.data.item_content`; and the items that are in sequences
            of this split, (n_items,) bool.

        Raises:
            InputError: the file of vectors or a column cannot be used.
        """
        file = None if self.config.item_vectors_as == START else self.config.item_vectors
        vectors = item_content(self, file, names_in(self.config.item_features))
        known = torch.zeros(self.item_num, dtype=torch.bool).index_fill(0, self.whole_sequences()[0], True)
        return torch.from_numpy(vectors), known

    def item_vectors_at_start(self, width: int) -> Tensor:
        """The vectors of ``item_vectors`` as initial embeddings.

        Args:
            width: of the embeddings.

        Returns:
            (n_items, width), see :func:`recbole_ssm.data.item_content.as_embeddings`; NaN where nothing is known.

        Raises:
            InputError: the file cannot be used.
        """
        vectors = item_content(self, self.config.item_vectors, ())
        return torch.from_numpy(as_embeddings(vectors, width, self.config.initializer_range))

    def item_texts(self, template: str | None = None) -> list[str]:
        """The text of each item, by its number; see :func:`recbole_ssm.data.item_text.item_texts`."""
        return item_texts(self, template)

    def sequences_to_targets(self) -> tuple[Tensor, Tensor, Tensor]:
        """The sequence of each user in this split, from the first item of all to the last target.

        Returns:
            items (T,) int64, the oldest of each user first, ``cu_seqlens`` (S + 1,) int32, and whether each item is a
            target of this split, (T,) bool.
        """
        users, ends = self.inter_feat[self.uid_field], self.inter_feat[HISTORY_END]
        last = torch.zeros_like(self.user_start).scatter_reduce(0, users, ends, "amax")
        found = users.unique()
        index, cu_seqlens = gather_ranges(self.user_start[found], last[found] + 1 - self.user_start[found])
        is_target = torch.zeros(len(self.history), dtype=torch.bool).index_fill(0, ends, True)
        return self.history[index], cu_seqlens, is_target[index]

    def steps_of_column(self, field: str) -> Tensor:
        """How much a column grows from the last item of each sample's history to its target.

        Args:
            field: of :attr:`history_columns`.

        Returns:
            (n_samples,) float64.
        """
        values, target = self.history_columns[field], self.inter_feat[HISTORY_END]
        return values[target] - values[target - 1]

    def begins(self, samples: Interaction) -> Tensor:
        """Whether the history of each sample (S,) is its user's first item, and nothing more."""
        return samples[HISTORY_END] - 1 == self.user_start[samples[self.uid_field]]


def _by_group(groups: NDArray[np.int64], n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort rows by group, groups in the order of their first rows, and mark the last rows of each group.

    Args:
        groups: (R,) the number of each row's group.
        n: how many of a group's last rows are marked.

    Returns:
        The numbers of the rows, (R,), and their marks, (R,): 1 for the last row of a group, 2 for the one before it, up
        to ``n``; 0 for others and for the first row of a group.
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
