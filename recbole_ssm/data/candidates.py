"""Sampled evaluation (``uniN``, ``popN``): the items that a target is ranked against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_ssm.errors import InputError


class FixedCandidates:
    """A sampler for an evaluation loader, in place of RecBole's, that draws the same items at every evaluation.

    RecBole draws from numpy's global generator, so that each evaluation ranks against other items. Here the candidates
    depend on seed, split and user alone: they are the same in every epoch and for every model. As in RecBole an item
    may be drawn twice, and never one of the targets that are ranked with it.

    Args:
        seed: of the run.
        split: 0 for validation, 1 for the test.
        weights: (n_items,) in proportion to the probability that an item is drawn.
        excluded: gives the items, (E,), that are not drawn for a user, beside the targets.
    """

    def __init__(self, seed: int, split: int, weights: NDArray[np.int64], excluded: Callable[[int], NDArray[np.int64]]):
        self.seed, self.split, self.excluded = seed, split, excluded
        self._items = np.flatnonzero(weights)
        cumulated = np.cumsum(weights[self._items], dtype=np.float64)
        self._borders = cumulated / cumulated[-1]

    def sample_by_user_ids(self, user_ids: NDArray[np.int64], item_ids: NDArray[np.int64], num: int) -> Tensor:
        """Candidates of one user's samples.

        Args:
            user_ids: (R,) the user, once for each sample.
            item_ids: (R,) the targets.
            num: candidates of each sample.

        Returns:
            (num * R,) int64: the first candidate of each sample, then the second of each, and so on.

        Raises:
            InputError: there is no item left to draw.
        """
        user = int(user_ids[0])
        left_out = self.left_out(user, item_ids)
        generator = np.random.default_rng([self.seed, self.split, user])
        drawn = self._draw(generator, num * len(user_ids))
        while len(again := np.flatnonzero(np.isin(drawn, left_out))):
            drawn[again] = self._draw(generator, len(again))
        return torch.from_numpy(drawn)

    def left_out(self, user: int, targets: NDArray[np.int64]) -> NDArray[np.int64]:
        """The items, sorted, that are not drawn for a user with these targets; InputError if no other is left."""
        left_out = np.union1d(self.excluded(user), targets)
        if len(left_out) >= len(self._items) and np.isin(self._items, left_out).all():
            raise InputError(
                "eval_args: mode draws items to rank a target against, but no item is left to draw for a user who has "
                "had all; set mode: full, or leave such users out with user_inter_num_interval"
            )
        return left_out

    def _draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        return self._items[np.searchsorted(self._borders, generator.random(count), side="right")]
