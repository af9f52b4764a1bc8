"""GPT4Rec (arXiv 2304.03879): a language model writes queries after the titles of a history, and BM25 finds items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.language.beam import beam_search
from recbole_ssm.language.bm25 import BM25
from recbole_ssm.language.pieces import Pieces, surrounded
from recbole_ssm.language.round_robin import ranks
from recbole_ssm.language.steps import check_writing, read_prompts, step_of
from recbole_ssm.model.bm25 import BM25_KEYS, counts_of
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.text import TextRecommender
from recbole_ssm.ops.packing import as_lists, gather_ranges

_BEST = 100
"""Items of a query that take part in the round robin."""

_HEAD, _TAIL, _TITLES = 0, 1, 2
"""Numbers of pieces: what stands before and after the titles, and the titles themselves."""


class GPT4Rec(TextRecommender):
    """The titles of the latest items are a prompt, and the title of the next item is what follows it.

    Beam search writes queries, the best first by the mean log-probability of their tokens. Then by turns each query
    gives its best item, by BM25 over the texts, that is not taken yet, from at most 100. Below these come all other
    items by their best BM25 over the queries, and then by popularity. Items of the history are last.

    The loss is that of the target's title and the end token alone, since there is nothing to learn of the prompt.
    Targets without a title are passed over: a model that learns to write nothing finds nothing.

    Args:
        config: the configuration.
        dataset: the training split, or for a model from a checkpoint what stands for it.
    """

    keys = (
        *TextRecommender.keys,
        Key(
            "prompt",
            str,
            "what the language model reads, with {history} for the titles, each of which ends with a full stop",
            "Previously, the customer has bought: {history} In the future, the customer wants to buy",
        ),
        Key("queries", int, "queries that are written, and beams of the search for them", 20, low=1),
        Key("query_tokens", int, "tokens of a query, at most", 24, low=1),
        *BM25_KEYS,
    )

    usual_language = {"model_type": "gpt2", "n_embd": 96, "n_layer": 2, "n_head": 4}

    popularity: Tensor

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset)
        self._queries, self._query_tokens = config["queries"], config["query_tokens"]
        self._users_at_once = config["eval_batch_size"] or 64
        self._prompt, self._title_tokens = config["prompt"], config["title_tokens"]
        self._of_bm25 = config["bm25_k1"], config["bm25_b"]
        with torch.device("cpu"):  # also while the sizes of weights are compared on none
            self.register_buffer("popularity", counts_of(dataset))
        self._read_texts()
        check_writing(self.language)

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`recbole_ssm.model.packed_input.PackedRecommender.check_config`."""
        super().check_config(config)
        if config["prompt"].count("{history}") != 1:
            raise InputError(f"prompt must have {{history}} once, where the titles stand, but is {config['prompt']!r}")

    def _read_texts(self) -> None:
        """Prepare what follows from the texts: pieces of prompts, and the index."""
        texts, words = self.language.texts, self.language.tokenizer
        titles = words.encode([f" {text}" if text else "" for text in texts], self._title_tokens)
        around = [part.strip() for part in self._prompt.split("{history}")]
        head, tail, stop = words.encode([around[0], f" {around[1]}" if around[1] else "", "."])
        bought, wanted = [[*each, *stop] for each in titles], [[*each, words.end] for each in titles]
        self._pieces = Pieces([[words.begin, *head], tail, *bought, *wanted]).to(self.popularity.device)
        self._wanted = _TITLES + len(texts)
        self._index = BM25(texts[1:], *self._of_bm25)
        longest = sum(sorted(map(len, bought))[-self.history_items :]) + len(head) + len(tail) + 1
        longest += max(self._query_tokens, *map(len, wanted))
        if self.language.longest is not None and longest > self.language.longest:
            raise InputError(
                f"the language model reads {self.language.longest:,} tokens, and a prompt of {self.history_items} "
                f"titles with a query may have {longest:,}; lower history_items, title_tokens or query_tokens"
            )

    def _prompts(self, items: Tensor, cu_seqlens: Tensor, *after: Tensor) -> tuple[Tensor, Tensor]:
        """The prompt of each history, and pieces (S,) after it.

        Args:
            items: (T,) of S histories.
            cu_seqlens: (S + 1,) their borders.
            *after: numbers of pieces, (S,) each.

        Returns:
            Tokens, and their borders (S + 1,).
        """
        length = cu_seqlens.diff().long().clamp(max=self.history_items)
        latest, borders = gather_ranges(cu_seqlens[1:].long() - length, length)
        return self._pieces.join(*surrounded(_TITLES + items[latest], borders, _HEAD, (_TAIL, *after)))

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Mean loss over the tokens of the targets' titles (S,) and the end tokens behind them."""
        target = self._wanted + interaction[self.POS_ITEM_ID]
        items, cu_seqlens = self.packed(interaction)
        learned = (self._pieces.length[target] > 1).nonzero()[:, 0]
        if not len(learned):
            return self.nothing_learned()
        if len(learned) < len(target):
            target = target[learned]
            index, cu_seqlens = gather_ranges(cu_seqlens[:-1].long()[learned], cu_seqlens.diff().long()[learned])
            items = items[index]
        tokens, borders = self._prompts(items, cu_seqlens, target)
        length = self._pieces.length[target]
        place, _ = gather_ranges(borders[1:].long() - length, length)
        return self.language.loss(self.language(tokens, borders, place - 1), tokens[place])

    @torch.no_grad()
    def write(self, items: Tensor, cu_seqlens: Tensor) -> list[list[str]]:
        """The queries after each history, the best first.

        Args:
            items: (T,) of S histories.
            cu_seqlens: (S + 1,) their borders.

        Returns:
            ``queries`` texts for each history.
        """
        words = self.language.tokenizer
        state = read_prompts(self.language, *self._prompts(items, cu_seqlens))
        options = {"beams": self._queries, "most": self._query_tokens, "end": words.end}
        written = beam_search(*state, step_of(self.language), **options).tokens.flatten(0, 1)
        texts = words.decode([[token for token in each if token != words.end] for each in written.tolist()])
        return [texts[first : first + self._queries] for first in range(0, len(texts), self._queries)]

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores (S, n_items) of every item after each history: 1 for the last one, and 1 more for each before it."""
        items, cu_seqlens = self.packed(interaction)
        parts = []
        for first in range(0, len(cu_seqlens) - 1, self._users_at_once):
            borders = cu_seqlens[first : first + self._users_at_once + 1]
            parts.append(self._rank(items[borders[0] : borders[-1]], borders - borders[0]))
        return torch.cat(parts)

    def _rank(self, items: Tensor, cu_seqlens: Tensor) -> Tensor:
        queries = self.write(items, cu_seqlens)
        found = self._index.scores([query for each in queries for query in each])
        scores = F.pad(found, (1, 0)).view(len(queries), self._queries, -1)
        for user, seen in zip(scores, as_lists(items, cu_seqlens), strict=True):
            user[:, seen] = -1
        scores[:, :, 0] = -2
        tie = self.popularity.cpu() / self.popularity.max().cpu().clamp(min=1)
        return ranks(scores, tie, _BEST).to(items.device)

    def load_other_parameter(self, kept: Mapping[str, Any] | None) -> None:
        """See :meth:`TextRecommender.load_other_parameter`."""
        super().load_other_parameter(kept)
        self._read_texts()
