"""A language model that reads prompts once, and goes on token by token with several continuations of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.language.model import LanguageModel
from recbole_ssm.ops.packing import last_tokens, lengths_of, positions, sequence_index

Step = Callable[[Tensor, Any, Tensor], tuple[Tensor, Any]]
"""``(tokens (R,), state, parents (R,))`` to logits (R, vocabulary) and the state of the R rows. ``parents`` are the
rows of the state before that the tokens come after, in any number and order. The state before stays as it is."""


def read_prompts(language: LanguageModel, tokens: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Any]:
    """Read prompts, each once.

    Args:
        language: the model.
        tokens: (T,) int64, one prompt after another.
        cu_seqlens: (S + 1,) their borders. None of them is empty.

    Returns:
        Logits (S, vocabulary) of the token after each prompt, and the state after it, for :func:`step_of`.

    Raises:
        InputError: the model keeps a state of another kind than Mamba's, or keys and values.
    """
    if language.packed is not None:
        hidden, state = language.packed.prefill(tokens, cu_seqlens)
        return language.logits(hidden[last_tokens(cu_seqlens)]), state
    row, place = sequence_index(cu_seqlens, len(tokens)).long(), positions(cu_seqlens, len(tokens))
    lengths = lengths_of(cu_seqlens).long()
    longest = int(lengths.max())
    padded, mask = tokens.new_zeros(2, len(lengths), longest)
    place = place + (longest - lengths)[row]  # at the left end
    padded[row, place], mask[row, place] = tokens, 1
    found = _attend(language, padded, mask, (mask.cumsum(1) - 1).clamp(min=0), None)
    if not hasattr(found.past_key_values, "reorder_cache"):
        raise InputError(
            f"language_model: a {language.model.config.model_type} cannot write here: it keeps neither keys and values "
            "nor the state of a Mamba; name another model"
        )
    return language.logits(found.last_hidden_state[:, -1]), _Attended(found.past_key_values, mask, lengths)


def step_of(language: LanguageModel) -> Step:
    """The step that goes on after :func:`read_prompts`."""
    packed = language.packed
    if packed is None:
        return lambda tokens, state, parents: _attended_step(language, tokens, state, parents)

    def step(tokens: Tensor, state: Any, parents: Tensor) -> tuple[Tensor, Any]:
        before = [(window.index_select(0, parents), kept.index_select(0, parents)) for window, kept in state]
        hidden, after = packed.step(tokens, before)
        return language.logits(hidden), after

    return step


class _Attended(NamedTuple):
    """The state of a model with attention."""

    cache: Any
    """Keys and values, of transformers."""
    mask: Tensor
    """(R, L) 1 where they are of a token, and not of the padding in front."""
    lengths: Tensor
    """(R,) how many tokens each row has."""


def _attended_step(language: LanguageModel, tokens: Tensor, state: _Attended, parents: Tensor) -> tuple[Tensor, Any]:
    cache = copy(state.cache)
    cache.layers = [copy(layer) for layer in cache.layers]  # whose tensors are replaced, and not changed
    cache.reorder_cache(parents)
    mask = torch.cat([state.mask[parents], state.mask.new_ones(len(parents), 1)], 1)
    lengths = state.lengths[parents]
    found = _attend(language, tokens[:, None], mask, lengths[:, None], cache)
    return language.logits(found.last_hidden_state[:, -1]), _Attended(found.past_key_values, mask, lengths + 1)


def _attend(language: LanguageModel, tokens: Tensor, mask: Tensor, place: Tensor, cache: Any) -> Any:
    backbone = language.model.base_model
    places = {"position_ids": place} if "position_ids" in inspect.signature(backbone.forward).parameters else {}
    return backbone(input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, **places)
