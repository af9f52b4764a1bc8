"""The batches of one epoch, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from recbole.data.interaction import Interaction

from recbole_ssm.data.shares import SHARE
from recbole_ssm.system.distributed import rank
from recbole_ssm.system.rng import set_random_state


class EpochBatches:
    """A loader for one epoch. It can begin in the middle of the epoch, and calls a function before each batch.

    Args:
        loader: of training data; its other attributes are available here, too.
        before_batch: is called with the number of batches that are done.
        target_field: the field of a batch that holds its targets.

    Attributes:
        number: how many batches have been handed out or left out.
        targets: how many targets this process has of the current batch.
        weight: what the current batch's loss is multiplied by to be the sum over its targets.
    """

    def __init__(self, loader: Any, before_batch: Callable[[int], None], target_field: str):
        self._loader, self._target_field = loader, target_field
        self._before_batch = before_batch
        self.targets: float = 0
        self.weight = 0.0
        self.number = 0
        self._left_out = 0
        self._random_states: list[dict] | None = None

    def leave_out(self, batches: int, random_states: list[dict]) -> None:
        """Skip the first batches, and go on after them with these random states, one for each process."""
        self._left_out, self._random_states = batches, random_states

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Interaction]:
        for batch in self._loader:
            if self.number >= self._left_out:
                self._set_random_state()
                self._before_batch(self.number)
                self._count(batch)
                yield batch
            self.number += 1
        self._set_random_state()

    def _count(self, batch: Interaction) -> None:
        self.targets = self.weight = len(batch[self._target_field]) if self._target_field in batch else len(batch)
        if SHARE in batch:
            share = batch[SHARE].item()  # 0 where the process has no target
            self.targets, self.weight = (self.targets, self.targets / share) if share else (0, 0.0)

    def _set_random_state(self) -> None:
        if self._left_out and self._random_states is not None:
            set_random_state(self._random_states[rank()])
            self._random_states = None
