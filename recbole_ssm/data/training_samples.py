"""The samples that an epoch trains on, and their batches.

The cost of training is in proportion to its tokens.

- ``all_prefixes``: every prefix of every user, each encoded anew, as in RecBole.
- ``sampled_prefixes``: a few prefixes of each user, other ones in every epoch.
- ``whole_sequence``: each user is encoded once, with a target after every token, which a causal model may have. The
  targets are those of all prefixes.
- ``prefix_lm``: the same for a bidirectional model. Each user is encoded once, in both directions up to a random item
  and in one direction after it. From that item on every token has a target (prefix language models: T5, arXiv
  1910.10683, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from recbole_ssm.data.dataset import PackedDataset


def sample_prefixes(users: Tensor, per_user: float, generator: torch.Generator) -> Tensor:
    """Draw at most ``per_user`` random samples of every user, without replacement.

    Args:
        users: (R,) the user of each row.
        per_user: how many to draw. Of 2.3, 2 are drawn of every user, and one more of three users in ten, who are
            random, too.
        generator: the source of randomness.

    Returns:
        The numbers of the rows.
    """
    _, group, counts = users.unique(return_inverse=True, return_counts=True)
    shuffled = (group + torch.rand(len(users), generator=generator, dtype=torch.float64)).argsort()  # user by user
    rank = torch.arange(len(users)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    every = int(per_user)
    if every == per_user:
        return shuffled[rank < every]
    more = torch.randperm(len(counts), generator=generator)[: max(1, round((per_user - every) * len(counts)))]
    of_user = torch.full_like(counts, every)
    of_user[more] += 1
    return shuffled[rank < of_user.repeat_interleave(counts)]


class PlannedBatch(NamedTuple):
    """What the collate function gets of a batch."""

    rows: Tensor
    """(S,) int64, the row numbers of its samples."""
    seed: int
    """For what the collate function draws: batches must not depend on the number of worker processes."""
    one_way: bool
    """Whether ``prefix_lm`` cuts histories after their first item, so that they are read in one direction only."""


class TrainingBatches(Sampler["list[int]"]):
    """Plans the batches of each epoch; iterating yields one :class:`PlannedBatch` after another.

    The plan depends on seed and epoch alone.

    Args:
        dataset: the training split.
        train_samples: ``all_prefixes``, ``sampled_prefixes``, ``whole_sequence`` or ``prefix_lm``.
        prefixes_per_user: how many prefixes ``sampled_prefixes`` draws, see :func:`sample_prefixes`.
        batch_size: the number of sequences in a batch, or None.
        batch_tokens: the largest number of tokens in a batch, or None. A longer sequence is a batch of its own.
        shuffle: whether the order changes from epoch to epoch.
        seed: of the plan.
        causal_epochs: the number of first epochs that are ``one_way``.
    """

    def __init__(
        self,
        dataset: PackedDataset,
        *,
        train_samples: str,
        prefixes_per_user: float | None,
        batch_size: int | None,
        batch_tokens: int | None,
        shuffle: bool,
        seed: int,
        causal_epochs: int = 0,
    ):
        self.users = dataset.inter_feat[dataset.uid_field]
        self.lengths = dataset.inter_feat[dataset.item_list_length_field]
        self.whole_sequences = dataset.last_samples() if train_samples in ("whole_sequence", "prefix_lm") else None
        self.prefixes_per_user = prefixes_per_user if train_samples == "sampled_prefixes" else None
        self.causal_epochs = causal_epochs
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.shuffle, self.seed = shuffle, seed
        self.epoch = 0
        self._planned: tuple[int, list[PlannedBatch]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Continue with the plan of this epoch, counted from 0."""
        self.epoch = epoch

    def _plan(self, epoch: int) -> list[PlannedBatch]:
        if self._planned is None or self._planned[0] != epoch:
            (seed,) = np.random.SeedSequence((self.seed, epoch)).generate_state(1).tolist()
            generator = torch.Generator().manual_seed(seed)
            rows = self._rows(generator)
            if self.shuffle:
                rows = rows[torch.randperm(len(rows), generator=generator)]
            batches = list(self._batches(rows))
            seeds = torch.randint(2**62, (len(batches),), generator=generator).tolist()
            one_way = epoch < self.causal_epochs
            self._planned = epoch, [PlannedBatch(*given, one_way) for given in zip(batches, seeds, strict=True)]
        return self._planned[1]

    def _rows(self, generator: torch.Generator) -> Tensor:
        if self.whole_sequences is not None:
            return self.whole_sequences
        if self.prefixes_per_user is not None:
            return sample_prefixes(self.users, self.prefixes_per_user, generator)
        return torch.arange(len(self.users))

    def _batches(self, rows: Tensor) -> Iterator[Tensor]:
        if self.batch_tokens is None:
            yield from rows.split(self.batch_size)
            return
        ends = self.lengths[rows].cumsum(0).numpy()
        first, used = 0, 0
        while first < len(rows):
            after = max(first + 1, int(np.searchsorted(ends, used + self.batch_tokens, side="right")))
            if self.batch_size is not None:
                after = min(after, first + self.batch_size)
            yield rows[first:after]
            first, used = after, ends[after - 1]

    def planned(self) -> list[PlannedBatch]:
        """The batches of the epoch that comes next."""
        return self._plan(self.epoch)

    def __iter__(self) -> Iterator[Any]:
        """Yield each :class:`PlannedBatch` of the epoch that comes next."""
        yield from self.planned()
        self.epoch += 1

    def __len__(self) -> int:
        """The number of batches in the epoch that comes next."""
        return len(self._plan(self.epoch))

    def total(self, epochs: int) -> int:
        """The number of batches in so many epochs, if each has as many as the first."""
        return epochs * len(self._plan(0))
