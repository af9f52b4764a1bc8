"""LlamaRec: a language model puts the best items of another model, the retriever, into a new order.

Yue et al., "LlamaRec: Two-Stage Recommendation using Large Language Models for Ranking", arXiv 2311.02089.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.language.letters import letter_tokens
from recbole_ssm.language.prompts import Prompts, prompt_text
from recbole_ssm.language.shared_beginning import next_logits
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.packed_input import LeftOut, PackedRecommender
from recbole_ssm.model.text import TextRecommender
from recbole_ssm.ops.packing import as_lists, cumulative_lengths, gather_ranges, lengths_of

_SMALL = {
    **{"model_type": "llama", "hidden_size": 96, "intermediate_size": 256},
    **{"num_hidden_layers": 2, "num_attention_heads": 4},
}
_TOKENS = 1 << 13
"""The most tokens of prompts that are read at once without gradients, unless one alone has more."""

_OF_RANKS = frozenset({"hit", "recall", "precision", "ndcg", "mrr", "map"})
"""Metrics that depend on nothing but the ranks of targets."""


class LlamaRec(TextRecommender):
    """Items by the scores s of a retriever, but the first ``rerank`` of them in the order of a language model.

    The language model reads one prompt: the titles of the latest items, and those of the candidates C, the items with
    the highest scores, each under a letter. What it says of the letters that may come next decides:
    ``s_C = max(s_C) + 1 + softmax over the letters``. So the same items come first as with the retriever alone, in
    another order, and the order of all others stays. With ``filter_seen`` no item of the history is a candidate, nor is
    anything that a recommendation leaves out, or that is not among the items to rank.

    In training the candidates are the item that came next and items drawn uniformly that are neither that nor in the
    history, in random order (``negatives: uniform``, as in the paper); or those of the retriever in its order, where
    the item that came next is one of them (``negatives: retriever``). The loss is the cross-entropy of two tokens: the
    letter, and the end of the text.

    Args:
        config: the configuration.
        dataset: the training split, or for a model from a checkpoint what stands for it.

    Attributes:
        language: the language model, with tokenizer and titles. Without ``language_model`` and ``language_config`` it
            is a small Llama with random weights.
    """

    of_items: tuple[str, ...] = ()
    letters: Tensor

    usual_language = _SMALL
    keys = (
        *TextRecommender.keys,
        Key(
            "retriever",
            str,
            "the checkpoint of a trained model of this package, whose best items a language model orders",
            optional=True,
        ),
        Key("rerank", int, "how many of the retriever's best items it orders", 20, low=2, high=26),
        Key(
            "negatives",
            str,
            "what it learns to tell the next item from: items drawn uniformly, as published, or the retriever's best",
            "uniform",
            choices=("uniform", "retriever"),
        ),
        Key("prompt_tokens", int, "longer prompts lose what is first in them", 1536, low=64),
        Key(
            "skip_misses",
            bool,
            "in evaluation a user whose target is not among the retriever's best keeps the retriever's order, which "
            "changes no metric of the target's rank; it saves the language model's time",
            False,
        ),
        Key(
            "gradient_checkpointing",
            bool,
            "compute layers of the language model again for their gradients: a third more time, much less memory",
            False,
        ),
    )

    def __init__(self, config: Configuration, dataset: Any):
        super().__init__(config, dataset)
        self._filters_seen, self._skips_misses = self.reads_seen(config), bool(config["skip_misses"])
        self.rerank, self.negatives = config["rerank"], config["negatives"]
        self._exact = max(self.rerank, *config["topk"])
        if config["gradient_checkpointing"]:
            self.language.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if config["prompt_tokens"] > (self.language.longest or config["prompt_tokens"]):
            raise InputError(
                f"prompt_tokens: the language model reads {self.language.longest} tokens, and "
                f"{config['prompt_tokens']} are asked for; set fewer"
            )
        self._sizes = {name: config[name] for name in ("history_items", "title_tokens", "prompt_tokens")}
        self.register_buffer("letters", torch.zeros(self.rerank, dtype=torch.int64), persistent=False)
        self._read_titles()
        self._retrievers: list[PackedRecommender] = []  # one, and no module of this one: it is not trained
        self._longest: int | None = None
        self._kept_of_retriever: Mapping[str, Any] = {}

    def _read_titles(self) -> None:
        words = self.language.tokenizer
        self.prompts = Prompts(words, self.language.texts, **self._sizes)
        self.letters = letter_tokens(words, prompt_text([""], [""]), self.rerank).to(self.letters.device)

    @classmethod
    def check_config(cls, config: Configuration) -> None:
        """See :meth:`PackedRecommender.check_config`."""
        super().check_config(config)
        others = [name for name in config["metrics"] if name.lower() not in _OF_RANKS]
        if others and config["skip_misses"]:
            raise InputError(f"skip_misses would change {others[0]}, which looks at what is recommended to everybody")

    @classmethod
    def reads_seen(cls, config: Configuration) -> bool:
        """See :meth:`PackedRecommender.reads_seen`: what was seen is no candidate."""
        return bool(config["filter_seen"])

    @classmethod
    def check_begin(cls, config: Configuration) -> None:
        """See :meth:`PackedRecommender.check_begin`."""
        super().check_begin(config)
        if not config["retriever"]:
            raise InputError(
                "LlamaRec orders what another model recommends: train one with this package, such as LRURec, and give "
                "its checkpoint as --retriever=FILE"
            )
        if not Path(config["retriever"]).is_file():
            raise InputError(f"retriever: there is no checkpoint {config['retriever']}")

    def take_retriever(self, retriever: PackedRecommender, longest: int | None, kept: Mapping[str, Any]) -> None:
        """Take the model whose recommendations are ordered.

        Args:
            retriever: in evaluation mode, on this model's device.
            longest: how many of the latest items it reads; None for all.
            kept: what a checkpoint keeps of it, see :mod:`recbole_ssm.checkpoints.within`.
        """
        self._retrievers, self._longest, self._kept_of_retriever = [retriever], longest, kept

    def other_parameter(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the weights: titles, tokenizer and settings, and the retriever."""
        return {**super().other_parameter(), **self._kept_of_retriever}

    def load_other_parameter(self, kept: Mapping[str, Any] | None) -> None:
        """Take over what a checkpoint has kept, but for the retriever; ValueError if it is of another catalogue."""
        super().load_other_parameter(kept)
        self._read_titles()

    @property
    def has_retriever(self) -> bool:
        """Whether it has got its retriever."""
        return bool(self._retrievers)

    def _apply(self, fn: Any, recurse: bool = True) -> LlamaRec:
        """Move the retriever along, for example to another device."""
        for retriever in self._retrievers:
            retriever._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores (S, n_items) of every item after each history."""
        target = interaction[self.ITEM_ID] if self._skips_misses and self.ITEM_ID in interaction else None
        tokens, cu_seqlens = self.packed(interaction)
        return self._scores(tokens, cu_seqlens, self._left_out(interaction), target)

    def score_exactly(self, interaction: Interaction) -> Tensor:
        """See :meth:`PackedRecommender.score_exactly`."""
        return self._scores(*self.packed(interaction), self._left_out(interaction), exact=self.n_items)

    def rank_best(self, interaction: Interaction, k: int, left_out: LeftOut) -> Tensor:
        """See :meth:`PackedRecommender.rank_best`: what is left out is no candidate."""
        return self._scores(*self.packed(interaction), left_out(), exact=k)

    def predict(self, interaction: Interaction) -> Tensor:
        """Scores (R,) of the candidates ``item_id`` (R,), the best of which a language model orders."""
        tokens, cu_seqlens = self.packed(interaction)
        items, rows = self.candidates(interaction, len(cu_seqlens) - 1)
        others = tokens.new_ones(len(cu_seqlens) - 1, self.n_items, dtype=torch.bool)
        others[rows, items] = False
        left_out = others.nonzero().T
        exact = int((~others).sum(1).max())
        return self._scores(tokens, cu_seqlens, (left_out[0], left_out[1]), exact=exact)[rows, items]

    def _left_out(self, interaction: Interaction) -> tuple[Tensor, Tensor]:
        """Rows (n,) and items (n,) that are no candidates: what the users have had with ``filter_seen``, else none."""
        if self._filters_seen:
            return self.seen(interaction)
        nothing = interaction[self.ITEM_SEQ].flatten()[:0]
        return nothing, nothing

    @torch.no_grad()
    def _scores(
        self,
        tokens: Tensor,
        cu_seqlens: Tensor,
        left_out: Sequence[Tensor],
        target: Tensor | None = None,
        exact: int = 0,
    ) -> Tensor:
        """Scores (S, n_items); of histories whose ``target`` (S,) is given and no candidate, those of the retriever."""
        scores, candidates, there = self.retrieve(tokens, cu_seqlens, left_out, exact)
        asked = there.sum(1) > 1  # one candidate alone is in order
        if target is not None:
            asked &= ((candidates == target[:, None]) & there).any(1)
        rows = asked.nonzero()[:, 0]
        if len(rows):
            histories = as_lists(tokens, cu_seqlens)
            pools = _lists(candidates[rows], there[rows])
            logits = self._letter_logits([histories[row] for row in rows.tolist()], pools)
            reorder(scores, rows, candidates[rows], there[rows], logits)
        return scores

    @torch.no_grad()
    def retrieve(
        self, tokens: Tensor, cu_seqlens: Tensor, left_out: Sequence[Tensor], exact: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the retriever recommends.

        Args:
            tokens: (T,) items of S histories.
            cu_seqlens: (S + 1,) their borders.
            left_out: rows (n,) and items (n,) that are no candidates.
            exact: how many of its best items must be right, where that is more than metrics look at.

        Returns:
            The scores (S, n_items) of all items, the candidates (S, rerank), the best first, and whether there is one
            at each place (S, rerank).
        """
        (retriever,) = self._retrievers
        if self._longest is not None:
            length = lengths_of(cu_seqlens).clamp(max=self._longest)
            index, cu_seqlens = gather_ranges(cu_seqlens[1:] - length, length)
            tokens = tokens[index]
        batch = Interaction({self.ITEM_SEQ: tokens, "cu_seqlens": cu_seqlens})
        scores = retriever.rank_best(batch, max(self._exact, exact), lambda: left_out).float()
        allowed = scores.clone()
        allowed[:, 0] = allowed[tuple(left_out)] = -torch.inf
        best = allowed.topk(min(self.rerank, self.n_items - 1))
        return scores, best.indices, ~best.values.isneginf()

    def _letter_logits(self, histories: Sequence[list[int]], pools: Sequence[list[int]]) -> Tensor:
        """Logits (S, rerank) of the letters after prompts; prompts of similar length are read together."""
        prompts = self.prompts.tokens(histories, pools)
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        found = torch.empty(len(prompts), len(self.letters), device=self.letters.device)
        while order:
            count = max(1, _TOKENS // len(prompts[order[-1]]))
            some, order = order[-count:], order[:-count]
            found[some] = next_logits(self.language, [prompts[row] for row in some])[:, self.letters]
        return found

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Mean loss over the answers to prompts, a letter and the end of the text each."""
        tokens, cu_seqlens = self.packed(interaction)
        target = interaction[self.POS_ITEM_ID]
        histories, answers = as_lists(tokens, cu_seqlens), target.tolist()
        pools: Sequence[list[int]]
        if self.negatives == "uniform":
            pools = [self._drawn(history, answer) for history, answer in zip(histories, answers, strict=True)]
        else:
            pools = _lists(*self.retrieve(tokens, cu_seqlens, self._left_out(interaction))[1:])
        learned = [row for row, pool in enumerate(pools) if answers[row] in pool]
        if not learned:
            return self.nothing_learned()
        prompts = self.prompts.tokens([histories[row] for row in learned], [pools[row] for row in learned])
        letters = [int(self.letters[pools[row].index(answers[row])]) for row in learned]
        read = [[*prompt, letter] for prompt, letter in zip(prompts, letters, strict=True)]
        device, end = self.letters.device, self.language.tokenizer.end
        stream = torch.tensor([token for text in read for token in text], device=device)
        borders = cumulative_lengths(torch.tensor([len(text) for text in read], device=device))
        before = borders[1:, None].long() - torch.tensor([2, 1], device=device)  # the answer's two tokens
        wanted = torch.tensor([[letter, end] for letter in letters], device=device)
        return self.language.loss(self.language(stream, borders, before.flatten()), wanted.flatten())

    def _drawn(self, history: Sequence[int], answer: int) -> list[int]:
        """The answer and items drawn uniformly that are neither it nor in the history, in random order."""
        weights = torch.ones(self.n_items)
        weights[[0, answer, *history]] = 0
        count = min(self.rerank - 1, int(weights.sum()))
        drawn = torch.multinomial(weights, count).tolist() if count else []
        pool = [answer, *drawn]
        return [pool[place] for place in torch.randperm(len(pool)).tolist()]


def reorder(scores: Tensor, rows: Tensor, candidates: Tensor, there: Tensor, logits: Tensor) -> None:
    """Give candidates scores above all others, in the order of their letters: ``max(s_C) + 1 + softmax``.

    Numbers that float32 would round to the same are told apart.

    Args:
        scores: (S, n_items) of the retriever; changed in place.
        rows: (R,) int64, the rows of ``scores``.
        candidates: (R, k) int64, items, the retriever's best first.
        there: (R, k) whether there is a candidate at this place; there is one at the first.
        logits: (R, k) of the letters of the candidates.
    """
    k = candidates.shape[1]
    best = scores[rows, candidates[:, 0]][:, None]
    logits = logits[:, :k].masked_fill(~there, -torch.inf)
    rank_from_last = logits.argsort(1).argsort(1)
    apart = 4 * torch.finfo(scores.dtype).eps * (best.abs() + 2) * rank_from_last
    new = best + 1 + logits.softmax(1) + apart
    scores[rows[:, None].expand_as(candidates)[there], candidates[there]] = new[there]


def _lists(candidates: Tensor, there: Tensor) -> list[list[int]]:
    """The candidates (S, k) of each row, where there are some."""
    counts = there.sum(1).tolist()
    return [row[:count] for row, count in zip(candidates.tolist(), counts, strict=True)]
