"""Beam search over states that a model gives by itself: a prompt is read once, and states follow their beams.

transformers' own search repeats a prompt for each beam before reading it, and before 5.13.0 leaves the states of Mamba
where they are when beams change places, so that its results are wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_ssm.language.steps import Step


class Written(NamedTuple):
    """What a model would most probably write after S prompts, the best first."""

    tokens: Tensor
    """(S, beams, most) int64, without the end token; that stands in all places after the last token."""
    length: Tensor
    """(S, beams) int64, tokens with the end token, where it was reached."""
    total: Tensor
    """(S, beams) ``log p(tokens, end | prompt)``; minus infinity where there are fewer than the beams."""


@torch.no_grad()
def beam_search(
    logits: Tensor, state: Any, step: Step, *, beams: int, most: int, end: int, length_power: float = 1.0
) -> Written:
    """Search for the most probable continuations, several prompts at once.

    A continuation is ranked by the sum of its log-probabilities, divided by its length to a power.

    Args:
        logits: (S, vocabulary) after the prompts.
        state: after the prompts, for ``step``.
        step: see :data:`recbole_ssm.language.steps.Step`.
        beams: how many are followed, and found.
        most: tokens of a continuation at most; one that has not ended by then counts as it is.
        end: the token that ends one.
        length_power: 1 ranks by the mean, 0 by the sum.

    Returns:
        The continuations of each prompt.
    """
    search = _Search(len(logits), beams, most, end, length_power, logits.device)
    rows = torch.arange(len(logits), device=logits.device)
    live = _Live(rows, logits.new_zeros(len(logits), 1, dtype=torch.float32), search.nothing(len(logits), 1))
    for length in range(1, most + 1):
        live, parents = search.grow(live, logits, length)
        if not len(live.prompt) or length == most:
            break
        logits, state = step(live.tokens[:, :, length - 1].flatten(), state, parents)
    return search.found()


class _Live(NamedTuple):
    """Beams that have not ended, of the prompts whose search goes on."""

    prompt: Tensor
    """(P,) int64."""
    total: Tensor
    """(P, beams), one beam at first."""
    tokens: Tensor
    """(P, beams, most)."""


class _Search:
    def __init__(self, prompts: int, beams: int, most: int, end: int, power: float, device: torch.device):
        self.beams, self.most, self.end, self.power = beams, most, end, power
        self.tokens = torch.full((prompts, beams, most), end, device=device)
        self.length = torch.zeros(prompts, beams, dtype=torch.int64, device=device)
        self.total = torch.full((prompts, beams), -torch.inf, device=device)

    def nothing(self, prompts: int, beams: int) -> Tensor:
        return self.tokens.new_full((prompts, beams, self.most), self.end)

    def rank(self, total: Tensor, length: Tensor | int) -> Tensor:
        return total / torch.as_tensor(length, device=total.device).clamp(min=1) ** self.power

    def grow(self, live: _Live, logits: Tensor, length: int) -> tuple[_Live, Tensor]:
        """Give each beam its best next tokens, and keep the best of all.

        Args:
            live: beams of ``length - 1`` tokens.
            logits: (P * beams, vocabulary) after them, beam by beam.
            length: with the new token.

        Returns:
            The beams of ``length`` tokens that go on, and the row of ``logits`` that each (P * beams,) comes from.
        """
        prompts, before = live.total.shape
        each = logits.float().log_softmax(1).topk(min(2 * self.beams, logits.shape[1]), 1)
        total = (live.total[..., None] + each.values.view(prompts, before, -1)).flatten(1)
        total, place = total.topk(min(2 * self.beams, total.shape[1]), 1)
        token = each.indices.view(prompts, -1).gather(1, place)
        parent = place // each.values.shape[1]
        tokens = live.tokens.gather(1, parent[..., None].expand(-1, -1, self.most)).clone()
        tokens[:, :, length - 1] = token
        ends = token == self.end
        done = ends | (length == self.most)
        self._keep(live.prompt, total.masked_fill(~done, -torch.inf), tokens, length)
        total, best = total.masked_fill(ends, -torch.inf).topk(min(self.beams, total.shape[1]), 1)
        tokens = tokens.gather(1, best[..., None].expand(-1, -1, self.most))
        rows = parent.gather(1, best) + before * torch.arange(prompts, device=total.device)[:, None]
        hopes = self.rank(total[:, 0], self.most if self.power > 0 else 1)  # a total only falls
        worst = self.rank(self.total, self.length)[live.prompt].min(1).values
        on = (hopes > worst).nonzero()[:, 0]
        return _Live(live.prompt[on], total[on], tokens[on]), rows[on].flatten()

    def _keep(self, prompt: Tensor, total: Tensor, tokens: Tensor, length: int) -> None:
        """Take in continuations that are done, where they are among the best."""
        totals = torch.cat([self.total[prompt], total], 1)
        lengths = torch.cat([self.length[prompt], torch.full_like(total, length, dtype=torch.int64)], 1)
        best = self.rank(totals, lengths).topk(self.beams, 1).indices
        self.total[prompt], self.length[prompt] = totals.gather(1, best), lengths.gather(1, best)
        everything = torch.cat([self.tokens[prompt], tokens], 1)
        self.tokens[prompt] = everything.gather(1, best[..., None].expand(-1, -1, self.most))

    def found(self) -> Written:
        return Written(self.tokens, self.length, self.total)
