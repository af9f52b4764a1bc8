"""A language model that reads prompts once, and goes on token by token with several continuations of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from recbole_ssm.errors import InputError
from recbole_ssm.language.library import transformers
from recbole_ssm.language.model import LanguageModel
from recbole_ssm.ops.packing import last_tokens, lengths_of, positions, sequence_index

Step = Callable[[Tensor, Any, Tensor], tuple[Tensor, Any]]
"""``(tokens (R,), state, parents (R,))`` to logits (R, vocabulary) and the state of the R rows. ``parents`` are the
rows of the state before that the tokens come after, in any number and order. The state before stays as it is."""

_FULL, _SLIDING = "full_attention", "sliding_attention"
"""Kinds of layers, as transformers names them."""


def read_prompts(language: LanguageModel, tokens: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Any]:
    """Read prompts, each once.

    Args:
        language: the model.
        tokens: (T,) int64, one prompt after another.
        cu_seqlens: (S + 1,) their borders. None of them is empty.

    Returns:
        Logits (S, vocabulary) of the token after each prompt, and the state after it, for :func:`step_of`.

    Raises:
        InputError: the model keeps a state of another kind than Mamba's, or keys and values, or its attention leaves
            out what no window tells.
    """
    if language.packed is not None:
        hidden, state = language.packed.prefill(tokens, cu_seqlens, last_tokens(cu_seqlens))
        return language.logits(hidden), state
    row, place = sequence_index(cu_seqlens, len(tokens)).long(), positions(cu_seqlens, len(tokens))
    lengths = lengths_of(cu_seqlens).long()
    longest = int(lengths.max())
    padded, mask = tokens.new_zeros(2, len(lengths), longest)
    place = place + (longest - lengths)[row]  # at the left end
    padded[row, place], mask[row, place] = tokens, 1
    _check_attention(language)
    plain = None if _window(language) is None else transformers().DynamicCache()  # the model's own forgets the oldest
    hidden, cache = attend(language, padded, mask, (mask.cumsum(1) - 1).clamp(min=0), plain)
    _check_cache(language, cache, longest)
    prompts = torch.arange(len(lengths), device=tokens.device)
    attended = _Attended(cache, prompts, mask.bool(), lengths)
    return language.logits(hidden[:, -1]), attended


def check_writing(language: LanguageModel) -> None:
    """Raise :class:`InputError` unless a model can go on after prompts; it reads two tokens, where it has weights."""
    if language.model.device.type == "meta":
        return
    tokens = torch.zeros(2, dtype=torch.int64, device=language.model.device)
    borders = torch.tensor([0, 2], dtype=torch.int32, device=tokens.device)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        read_prompts(language, tokens, borders)


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
    """The state of a model with attention: R rows that continue S prompts.

    Rows of one prompt share its keys and values, and those of all tokens that were tried after it. Each row attends to
    its own.
    """

    cache: Any
    """Keys and values (S, heads, K, ...) of each layer, of transformers."""
    prompt: Tensor
    """(R,) int64, the prompt of each row."""
    own: Tensor
    """(R, K) bool, which keys of its prompt belong to each row."""
    lengths: Tensor
    """(R,) how many tokens each row has."""


def _attended_step(language: LanguageModel, tokens: Tensor, state: _Attended, parents: Tensor) -> tuple[Tensor, Any]:
    prompts, row = state.prompt[parents].unique(return_inverse=True)
    column, width = _places(row)
    cache = copy(state.cache)
    cache.layers = [copy(layer) for layer in cache.layers]  # whose tensors are replaced, and not changed
    if len(prompts) < len(cache.layers[0].keys):
        cache.reorder_cache(prompts)
    before, lengths = state.own[parents], state.lengths[parents]
    own = torch.cat([before, before.new_zeros(len(parents), width)], 1)
    own[torch.arange(len(row), device=row.device), before.shape[1] + column] = True
    ids, place = tokens.new_zeros(2, len(prompts), width)
    ids[row, column], place[row, column] = tokens, lengths
    window, masks = _window(language), {}
    for kind in _FULL, _SLIDING:
        near = own if kind == _FULL or window is None else own & (own.sum(1, keepdim=True) - own.cumsum(1) < window)
        masks[kind] = _attend_to_none(language, len(prompts), width, own.shape[1])
        masks[kind][row, 0, column] = masks[kind][row, 0, column].masked_fill(near, 0)
    hidden, cache = attend(language, ids, _of_layers(language, masks), place, cache)
    return language.logits(hidden[row, column]), _Attended(cache, row, own, lengths + 1)


def _places(row: Tensor) -> tuple[Tensor, int]:
    """How many entries before each (R,) have the same value, and how many the most frequent value has."""
    counts = row.bincount()
    order = row.argsort(stable=True)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(row)
    place[order] = torch.arange(len(row), device=row.device) - first[row[order]]
    return place, int(counts.max())


def _attend_to_none(language: LanguageModel, prompts: int, queries: int, keys: int) -> Tensor:
    """A mask (prompts, 1, queries, keys), which transformers adds to what attention compares."""
    like = language.model.get_input_embeddings().weight
    kind = like.dtype if like.is_floating_point() else torch.float32
    return torch.full((prompts, 1, queries, keys), torch.finfo(kind).min, dtype=kind, device=like.device)


def _kinds(language: LanguageModel) -> set[str]:
    """The kinds of attention that layers have, where they have several; else empty."""
    return set(getattr(language.model.config, "layer_types", None) or ())


def _window(language: LanguageModel) -> int | None:
    """How many of the latest tokens the layers with sliding attention read; None where there are none."""
    kinds, window = _kinds(language), getattr(language.model.config, "sliding_window", None)
    return None if window is None or (kinds and _SLIDING not in kinds) else int(window)


def _of_layers(language: LanguageModel, masks: Mapping[str, Tensor]) -> Tensor | Mapping[str, Tensor]:
    """The mask that a model takes: one for each kind of its layers, or one where these are of one kind."""
    if len(_kinds(language)) > 1:
        return masks
    return masks[_FULL if _window(language) is None else _SLIDING]


def _check_attention(language: LanguageModel) -> None:
    """Raise :class:`InputError` where layers attend to other tokens than all before, or the latest of them."""
    settings = language.model.config
    others = _kinds(language) - {_FULL, _SLIDING} | {"local"} & {*getattr(settings, "attention_layers", ())}
    if others:
        _refuse(language, f"has layers of {min(others)}")


def _check_cache(language: LanguageModel, cache: Any, tokens: int) -> None:
    """Raise :class:`InputError` unless a cache holds the keys of so many tokens in each layer."""
    for layer in getattr(cache, "layers", None) or [None]:
        keys = getattr(layer, "keys", None)
        if not isinstance(keys, Tensor) or keys.shape[-2:-1] != (tokens,):
            _refuse(language, "keeps neither the keys and values of all tokens nor the state of a Mamba")


def _refuse(language: LanguageModel, why: str) -> NoReturn:
    raise InputError(
        f"language_model: a {language.model.config.model_type} cannot write here: it {why}; name another model"
    )


def attend(
    language: LanguageModel, tokens: Tensor, mask: Tensor | Mapping[str, Tensor], place: Tensor, cache: Any
) -> tuple[Tensor, Any]:
    """Read tokens after those of which keys and values are kept.

    Args:
        language: not a Mamba.
        tokens: (S, L) int64.
        mask: (S, K) whether each of these tokens and those before is read; or what is added to what attention compares,
            (S, 1, L, K), for each kind of layers or for all.
        place: (S, L) int64, where each token stands in its text.
        cache: keys and values of transformers, which are changed; None for none.

    Returns:
        Representations (S, L, width), and keys and values; None of these from a model that keeps none.
    """
    backbone = language.model.base_model
    takes = inspect.signature(backbone.forward).parameters
    keys = "cache" if "cache" in takes else "past_key_values"  # its name before transformers 5.24
    given = {"attention_mask": mask, keys: cache} | ({"position_ids": place} if "position_ids" in takes else {})
    found = backbone(input_ids=tokens, use_cache=True, **given)
    return found.last_hidden_state, found.get(keys)
