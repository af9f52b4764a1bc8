"""What comes after texts that begin alike: what all of them share is read once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_ssm.language.model import LanguageModel
from recbole_ssm.language.steps import attend
from recbole_ssm.ops.packing import cumulative_lengths, last_tokens, pad


@torch.no_grad()
def next_logits(language: LanguageModel, texts: Sequence[list[int]]) -> Tensor:
    """Scores of the token that comes after each text.

    Args:
        language: the model.
        texts: the tokens of S texts, none of them empty.

    Returns:
        (S, vocabulary) float32.
    """
    device = language.title_flat.device
    length = shared_length(texts) if len(texts) > 1 else 0
    tokens = torch.tensor([token for text in texts for token in text[length:]], device=device)
    cu_seqlens = cumulative_lengths(torch.tensor([len(text) - length for text in texts], device=device))
    last, hidden = last_tokens(cu_seqlens), None
    if length:
        hidden = _after(language, torch.tensor(texts[0][:length], device=device), tokens, cu_seqlens, last)
    return language.logits(language(tokens, cu_seqlens, last) if hidden is None else hidden)


def shared_length(texts: Sequence[list[int]]) -> int:
    """How many first tokens all texts share; at least one token of each is its own."""
    first, last = min(texts), max(texts)  # whatever is between them begins as both do
    most = min(map(len, texts)) - 1
    return next((place for place in range(most) if first[place] != last[place]), most)


def _after(
    language: LanguageModel, beginning: Tensor, tokens: Tensor, cu_seqlens: Tensor, last: Tensor
) -> Tensor | None:
    """Representations (S, width) of the last tokens of a stream whose sequences go on after the same tokens (N,).

    None for a model that keeps neither keys and values nor the state of a Mamba.
    """
    size, length = len(last), len(beginning)
    if language.packed is not None:
        _, state = language.packed.prefill(beginning, cumulative_lengths(last.new_tensor([length])))
        each = [(window.expand(size, -1, -1), kept.expand(size, *kept.shape[1:])) for window, kept in state]
        return language.packed.extend(tokens, cu_seqlens, each, last)[0]
    place = torch.arange(length, device=tokens.device)[None]
    _, cache = attend(language, beginning[None], torch.ones_like(place), place, None)
    if not hasattr(cache, "batch_repeat_interleave"):
        return None
    cache.batch_repeat_interleave(size)
    rest, row, column = pad(tokens, cu_seqlens)
    mask = rest.new_ones(size, length + rest.shape[1])
    place = length + torch.arange(rest.shape[1], device=tokens.device).expand(size, -1)
    mask[:, length:] = place < length + cu_seqlens.diff()[:, None]
    hidden, _ = attend(language, rest, mask, place, cache)
    return hidden[row[last], column[last]]
