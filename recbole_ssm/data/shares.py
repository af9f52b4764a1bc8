"""Training batches divided among the processes of torchrun."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

SHARE = "share"
"""Field of a batch, (1,): its number of targets over that of all processes, times the world size.

The mean over processes of their mean losses, each times its share, is the mean loss over all targets.
"""


def own_rows(owner: Tensor, targets: Tensor, rank: int, world_size: int) -> tuple[Tensor, Tensor]:
    """The rows of a batch that this process computes, and their :data:`SHARE`.

    Args:
        owner: (R,) the rank of the process for each row.
        targets: (R,) how many targets each row has.
        rank: of this process.
        world_size: the number of processes.

    Returns:
        The numbers of the rows, at least one, and the share, (1,). A process without rows takes the first, with a share
        of 0.
    """
    rows = (owner == rank).nonzero().squeeze(1)
    share = world_size * targets[rows].sum() / targets.sum()
    return (rows if len(rows) else owner.new_zeros(1)), share[None]


class SharedCollate:
    """A collate function that gives each process its rows of a batch: row r goes to rank ``r % world_size``.

    Args:
        collate: RecBole's collate function for a whole batch.
        rank: of this process.
        world_size: the number of processes.
    """

    def __init__(self, collate: Callable[[list[int]], Interaction], rank: int, world_size: int):
        self.collate, self.rank, self.world_size = collate, rank, world_size

    def __call__(self, rows_of_batch: Sequence[int]) -> Interaction:
        """This process's rows of a batch, with the field :data:`SHARE`."""
        index = torch.as_tensor(rows_of_batch)
        rows, share = own_rows(
            torch.arange(len(index)) % self.world_size, torch.ones(len(index)), self.rank, self.world_size
        )
        batch = self.collate(index[rows].tolist())
        batch[SHARE] = share
        return batch
