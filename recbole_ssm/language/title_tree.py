"""The most probable titles of a catalogue under a language model, found exactly by a walk of their prefix tree.

A title's score is ``log p(its tokens, the end token | history)``. Scores only fall along a path of the tree, so a
prefix below the k-th best whole title can be dropped with all that begins with it: none of these belongs to the k best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from recbole_ssm.language.steps import Step
from recbole_ssm.ops.packing import gather_ranges


class TitleTree(nn.Module):
    """The prefix tree of tokenised titles. Each ends with the end token, so that one may be a prefix of another.

    Nodes are numbered level by level, and within a level by their parents: the children of a node are neighbours.

    Args:
        titles: the tokens of each item's title, by its number, without the end token. Item 0 is the padding, whose
            title is not read. Items of equal titles have equal scores. Those without a title are never met: the
            probability that no title comes next would put all of them before most others.
        end: the end token.
    """

    token: Tensor
    first_child: Tensor
    items: Tensor
    first_item: Tensor
    path: Tensor
    below: Tensor

    def __init__(self, titles: Sequence[Sequence[int]], end: int) -> None:
        super().__init__()
        self.n_items = len(titles)
        parents, tokens, path = _nodes([[*title, end] if title else [] for title in titles[1:]])
        nodes = np.arange(len(tokens) + 1)
        leaf = path.max(1, initial=0)
        tables = {
            "token": tokens,  # (N,) the last token of each node
            "first_child": np.searchsorted(parents, nodes),  # (N + 1,) where the children of each node begin
            "items": leaf.argsort(kind="stable") + 1,  # (n_items - 1,) node by node, those without a title first
            "first_item": np.searchsorted(np.sort(leaf), nodes),  # (N + 1,) where those of each node begin in it
            "path": path,  # (n_items - 1, depth) the nodes of each title, -1 after its end
            "below": np.bincount(path[path >= 0], minlength=len(tokens)),  # (N,) the titles that begin with each node
        }
        for name, values in tables.items():
            self.register_buffer(name, torch.from_numpy(values.astype(np.int64)), persistent=False)

    @torch.no_grad()
    def walk(
        self,
        logits: Tensor,
        state: Any,
        step: Step,
        k: int | None,
        left_out: tuple[Tensor, Tensor] | None = None,
        *,
        beam: int = 16,
        rows: int = 4096,
    ) -> Tensor:
        """Scores of items after U histories, of which the k best are exact and the first k.

        Args:
            logits: (U, vocabulary) after the histories.
            state: after the histories, for ``step``.
            step: see :data:`recbole_ssm.language.steps.Step`.
            k: how many items must be exact; None for all.
            left_out: users (n,) and items (n,) that are not recommended, such as what was seen before.
            beam: with how many prefixes a user goes on until k whole titles are found.
            rows: prefixes that go through the model at once, which bounds the memory.

        Returns:
            (U, n_items). Items that were dropped or left out, that have no title, and the padding have a number of the
            user that is lower than all others.
        """
        walk = _Walk(self, len(logits), k, self._wanted(len(logits), left_out))
        users = torch.arange(len(logits), device=logits.device)
        root = _Wave(users, torch.zeros_like(users), logits.new_zeros(len(users)), users, state)
        waves = [walk.children(root, logits, state)]
        while waves:
            wave = walk.above_bound(waves.pop())
            if not len(wave.user):
                continue
            now, later = walk.divide(wave, beam if k is not None else rows, rows)
            waves += [later, walk.children(now, *step(self.token[now.node], now.state, now.parent))]
        return walk.scores()

    def _wanted(self, users: int, left_out: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Which items a user may be recommended (users, n_items), and which nodes lead to one, (users, N)."""
        items = self.items.new_ones(users, self.n_items, dtype=torch.bool)
        items[:, 0] = False
        left = self.below.expand(users, -1)
        if left_out is not None and len(left_out[0]):
            items[left_out] = False
            user, item = (~items).nonzero().T
            user, item = user[item > 0], item[item > 0]
            path = self.path[item - 1]
            nodes = (user[:, None] * len(self.below) + path)[path >= 0]
            left = left - torch.bincount(nodes, minlength=left.numel()).view_as(left)
        return items, left > 0


class _Wave(NamedTuple):
    """Prefixes of equal length that wait: the model has not read their last tokens yet."""

    user: Tensor
    """(R,) int64."""
    node: Tensor
    """(R,) int64, of the tree."""
    score: Tensor
    """(R,) ``log p(prefix | history)``."""
    parent: Tensor
    """(R,) int64, rows of ``state``."""
    state: Any
    """After the prefixes without their last tokens."""

    def at(self, rows: Tensor) -> _Wave:
        return _Wave(self.user[rows], self.node[rows], self.score[rows], self.parent[rows], self.state)


class _Walk:
    """What a walk has found so far, for U users."""

    def __init__(self, tree: TitleTree, users: int, k: int | None, wanted: tuple[Tensor, Tensor]):
        self.tree = tree
        self.items, self.nodes = wanted
        self.best = torch.full((users, k or 1), -torch.inf, device=tree.token.device)
        """(U, k) the best scores of items."""
        self.bounded = k is not None
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []
        """Users, items and scores."""

    def above_bound(self, wave: _Wave) -> _Wave:
        """The prefixes that may become one of the k best titles."""
        return wave.at((wave.score >= self.best[wave.user, -1]).nonzero()[:, 0]) if self.bounded else wave

    def divide(self, wave: _Wave, beam: int, rows: int) -> tuple[_Wave, _Wave]:
        """The prefixes that are gone on with now, and those that wait.

        Args:
            wave: all of them.
            beam: most prefixes of a user that has not got k whole titles.
            rows: most prefixes.

        Returns:
            Two parts of the wave.
        """
        order = wave.score.argsort(descending=True)
        order = order[wave.user[order].argsort(stable=True)]
        user = wave.user[order]
        rank = torch.arange(len(user), device=user.device) - torch.searchsorted(user, user)
        now = (rank < beam) | (self.best[user, -1] > -torch.inf)
        now &= now.cumsum(0) <= rows
        return wave.at(order[now]), wave.at(order[~now])

    def children(self, wave: _Wave, logits: Tensor, state: Any) -> _Wave:
        """Go on with prefixes: note the titles that end, and return the longer prefixes.

        Args:
            wave: R prefixes.
            logits: (R, vocabulary) after them.
            state: after them.

        Returns:
            The prefixes of one token more that lead to items and are not below the bound.
        """
        tree = self.tree
        start = tree.first_child[wave.node]
        child, borders = gather_ranges(start, tree.first_child[wave.node + 1] - start)
        row = torch.arange(len(start), device=start.device).repeat_interleave(borders.diff(), output_size=len(child))
        wanted = self.nodes[wave.user[row], child]
        child, row = child[wanted], row[wanted]
        step = logits[row, tree.token[child]].float() - logits.float().logsumexp(1)[row]
        longer = _Wave(wave.user[row], child, wave.score[row] + step.clamp(max=0), row, state)
        self._note(longer)
        inner = tree.first_child[child + 1] > tree.first_child[child]
        return self.above_bound(longer.at(inner.nonzero()[:, 0]))

    def _note(self, wave: _Wave) -> None:
        """Take in the items whose titles are these prefixes."""
        start = self.tree.first_item[wave.node]
        place, borders = gather_ranges(start, self.tree.first_item[wave.node + 1] - start)
        item, lengths = self.tree.items[place], borders.diff()
        user, score = (each.repeat_interleave(lengths, output_size=len(item)) for each in (wave.user, wave.score))
        wanted = self.items[user, item]
        user, item, score = user[wanted], item[wanted], score[wanted]
        if len(item):
            self.found.append((user, item, score))
        if len(item) and self.bounded:
            users, counts = user.sort().values.unique_consecutive(return_counts=True)
            order = user.argsort(stable=True)
            row = torch.arange(len(users), device=user.device).repeat_interleave(counts, output_size=len(user))
            place = torch.arange(len(user), device=user.device) - (counts.cumsum(0) - counts)[row]
            new = score.new_full((len(users), int(counts.max())), -torch.inf)
            new[row, place] = score[order]
            self.best[users] = torch.cat([self.best[users], new], 1).topk(self.best.shape[1], 1).values

    def scores(self) -> Tensor:
        """(U, n_items), with 1 less than the lowest of a user for what has not been met."""
        lowest = self.best.new_zeros(len(self.best))
        for user, _, score in self.found:
            lowest.scatter_reduce_(0, user, score, "amin")
        scores = (lowest - 1)[:, None].repeat(1, self.tree.n_items)
        for user, item, score in self.found:
            scores[user, item] = score
        return scores


def _nodes(titles: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number the prefixes of titles, level by level; node 0 is the empty prefix.

    Args:
        titles: an empty one has no node but the first.

    Returns:
        The parent of each node (N,), which does not fall, and its last token (N,), both -1 for node 0; and the nodes of
        each title, (titles, longest), -1 after its end.
    """
    longest = max(map(len, titles), default=0)
    padded = np.full((len(titles), longest), -1)
    for row, title in enumerate(titles):
        padded[row, : len(title)] = title
    parents, tokens, n_nodes = [np.array([-1])], [np.array([-1])], 1
    node, path = np.zeros(len(titles), np.int64), np.full((len(titles), longest), -1)
    for level in range(longest):
        here = padded[:, level] >= 0
        pairs, which = np.unique(np.stack([node[here], padded[here, level]]), axis=1, return_inverse=True)
        parents.append(pairs[0])
        tokens.append(pairs[1])
        path[here, level] = node[here] = n_nodes + which.ravel()
        n_nodes += pairs.shape[1]
    return np.concatenate(parents), np.concatenate(tokens), path
