"""Training batches divided among processes."""

from __future__ import annotations

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

SHARE = "share"
"""Field of a batch (1,): its targets over those of all processes, times the number of processes.

The mean over processes of their mean losses, each times this, is the mean loss over all targets.
"""


def own_rows(owner: Tensor, targets: Tensor, rank: int, world_size: int) -> tuple[Tensor, Tensor]:
    """Which rows of a batch are this process's, and their :data:`SHARE`.

    Args:
        owner: (R,) the process of each row.
        targets: (R,) how many targets each row has.
        rank: this process.
        world_size: how many processes there are.

    Returns:
        Row numbers, at least one: a process that has none takes the first, with a share of 0.
    """
    rows = (owner == rank).nonzero().squeeze(1)
    share = world_size * targets[rows].sum() / targets.sum()
    return (rows if len(rows) else owner.new_zeros(1)), share[None]


class SharedCollate:
    """A collate function of RecBole's that is given every so-manieth row of a batch.

    Args:
        collate: the collate function, ``index -> Interaction``.
        rank: this process.
        world_size: how many processes there are.
    """

    def __init__(self, collate, rank: int, world_size: int):
        self.collate, self.rank, self.world_size = collate, rank, world_size

    def __call__(self, index) -> Interaction:
        index = torch.as_tensor(index)
        rows, share = own_rows(
            torch.arange(len(index)) % self.world_size, torch.ones(len(index)), self.rank, self.world_size
        )
        batch = self.collate(index[rows].tolist())
        batch[SHARE] = share
        return batch
