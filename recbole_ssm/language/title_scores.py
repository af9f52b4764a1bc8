"""How probable the titles of items are after histories, under a language model with kept states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_ssm.language.model import LanguageModel
from recbole_ssm.language.steps import read_prompts, step_of
from recbole_ssm.language.streams import next_tokens, title_stream, with_targets
from recbole_ssm.language.title_tree import TitleTree
from recbole_ssm.ops.packing import last_tokens, sequence_index

_LOGITS = 1 << 24
"""Numbers that the logits of some rows may take at once."""

_WITHOUT_TITLE = -1e6
"""A score below that of any title."""


class TitleScores:
    """Scores ``log p(tokens of the title, end | history)`` of items; those without a title are below all others.

    Args:
        language: a Mamba with the titles.
        beam: see :meth:`recbole_ssm.language.title_tree.TitleTree.walk`.
    """

    def __init__(self, language: LanguageModel, beam: int):
        self._language, self._beam = language, beam
        self._tree: tuple[Tensor, TitleTree] | None = None

    def loss(self, items: Tensor, cu_seqlens: Tensor, target: Tensor, dropout: Any) -> Tensor:
        """Mean cross-entropy of the tokens of titles.

        Args:
            items: (T,) of S histories.
            cu_seqlens: (S + 1,) their borders.
            target: the item after each item, (T,), and then all titles count; or the one after each history, (S,), and
                then these alone do.
            dropout: a module for representations.

        Returns:
            A scalar.
        """
        language, last = self._language, last_tokens(cu_seqlens)
        alone = len(target) == len(last)
        longer, borders = with_targets(items, cu_seqlens, target if alone else target[last])
        stream = title_stream(language, longer, borders)
        following = next_tokens(stream)
        if alone:
            before = stream.ends[borders[1:].long() - 2]  # the end of the title before the target's
            place = torch.arange(len(following), device=items.device)
            early = place < before[sequence_index(stream.cu_seqlens, len(following)).long()]
            following = following.masked_fill(early, -100)
        wanted = (following >= 0).nonzero()[:, 0]
        hidden = dropout(language(stream.tokens, stream.cu_seqlens, wanted))
        return language.loss(hidden, following[wanted])

    def best(
        self, items: Tensor, cu_seqlens: Tensor, k: int | None, left_out: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Scores (S, n_items) after histories, of which the k best are exact and the first k.

        Args:
            items: (T,) of S histories.
            cu_seqlens: (S + 1,) their borders.
            k: how many items must be exact; None for all.
            left_out: histories (n,) and items (n,) that are not recommended.

        Returns:
            The scores; items that the walk dropped have a common one, below all others.
        """
        return self.best_after(*self._after(items, cu_seqlens), k, left_out)

    def best_after(
        self, logits: Tensor, state: Any, k: int | None, left_out: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """As :meth:`best`, with the logits (S, vocabulary) and the state after histories."""
        rows = max(256, _LOGITS // logits.shape[1])
        step = step_of(self._language)
        return self._titles().walk(logits, state, step, k, left_out, beam=self._beam, rows=rows)

    def of(self, items: Tensor, cu_seqlens: Tensor, rows: Tensor, candidates: Tensor) -> Tensor:
        """Scores (R,) of some items.

        Args:
            items: (T,) of S histories.
            cu_seqlens: (S + 1,) their borders.
            rows: (R,) int64, the history of each candidate.
            candidates: (R,) items.

        Returns:
            The scores.
        """
        logits, state = self._after(items, cu_seqlens)
        alone = torch.arange(len(candidates) + 1, dtype=torch.int32, device=items.device)
        stream = title_stream(self._language, candidates, alone, begin=False)
        assert self._language.packed is not None
        kept = [(window[rows], states[rows]) for window, states in state]
        hidden, _ = self._language.packed.extend(stream.tokens, stream.cu_seqlens, kept)
        before = self._language.logits(hidden).roll(1, 0).index_copy(0, stream.cu_seqlens[:-1].long(), logits[rows])
        found = before.log_softmax(1).gather(1, stream.tokens[:, None])[:, 0]
        sequence = sequence_index(stream.cu_seqlens, len(found))
        scores = found.new_zeros(len(candidates)).index_add(0, sequence, found)
        return scores.masked_fill(stream.cu_seqlens.diff() == 1, _WITHOUT_TITLE)

    def _after(self, items: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Any]:
        """Logits (S, vocabulary) and the state after histories."""
        stream = title_stream(self._language, items, cu_seqlens)
        return read_prompts(self._language, stream.tokens, stream.cu_seqlens)

    def _titles(self) -> TitleTree:
        flat = self._language.title_flat
        if self._tree is None or self._tree[0] is not flat:
            tree = TitleTree(self._language.titles(), self._language.tokenizer.separator).to(flat.device)
            self._tree = flat, tree
        return self._tree[1]
