"""Sampled evaluation (``uniN``, ``popN``): the items that a target is ranked against."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from recbole_ssm.errors import InputError


class FixedCandidates:
    """Stands in for RecBole's sampler in an evaluation loader, and draws the same items at every evaluation.

    RecBole draws from numpy's global state, so that each evaluation ranks against other items. Here the candidates
    follow from seed, split and user alone: they are the same in every epoch, for every model, and whatever was drawn
    before. As in RecBole an item may be drawn twice, and never one of the user's targets.

    Args:
        seed: of the run.
        split: 0 for validation, 1 for the test.
        weights: (n_items,) how likely each item is to be drawn, 0 for those that must not be.
        excluded: the items, (E,) int64, that are not drawn for a user, beside the targets.
    """

    def __init__(self, seed: int, split: int, weights: np.ndarray, excluded: Callable[[int], np.ndarray]):
        self.seed, self.split, self.excluded = seed, split, excluded
        self._items = np.flatnonzero(weights)
        cumulated = np.cumsum(weights[self._items], dtype=np.float64)
        self._borders = cumulated / cumulated[-1]

    def sample_by_user_ids(self, user_ids: np.ndarray, item_ids: np.ndarray, num: int) -> Tensor:
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

    def left_out(self, user: int, targets: np.ndarray) -> np.ndarray:
        """The items that are not drawn for a user with these targets; InputError if there is no other."""
        left_out = np.union1d(self.excluded(user), targets)
        if len(left_out) >= len(self._items) and np.isin(self._items, left_out).all():
            raise InputError(
                "eval_args: mode draws items that a target is ranked against, but there is none left to draw for a "
                "user who has had all; set mode: full, or leave such users out with user_inter_num_interval"
            )
        return left_out

    def _draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        return self._items[np.searchsorted(self._borders, generator.random(count), side="right")]
