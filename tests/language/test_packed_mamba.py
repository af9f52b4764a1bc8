"""Mamba language models on packed ops: as transformers computes each sequence alone, and from kept states."""

from __future__ import annotations

import pytest
import torch
from language_cases import needs_transformers, tiny_language
from packed_cases import borders, randn, randomise, relative_error

from recbole_ssm.language.lora import Lora, add_adapters
from recbole_ssm.ops import use_backend

needs_transformers()

pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

LENGTHS = (7, 1, 12)
each_kind = pytest.mark.parametrize("kind", ["mamba", "mamba2"])


@pytest.fixture(params=["torch", "native"], autouse=True)
def backend(request):
    try:
        with use_backend(request.param):
            yield request.param
    except ValueError as error:
        pytest.skip(str(error))


def stream(language, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(language.tokenizer.size, (sum(lengths),), generator=generator), borders(lengths)


def gradients(language, logits):
    """Of all weights that are trained, for a fixed random gradient of the logits."""
    language.zero_grad()
    logits.backward(randn(*logits.shape, seed=1).float())
    return {name: weight.grad for name, weight in language.named_parameters() if weight.requires_grad}


@each_kind
@pytest.mark.parametrize("lora", [None, Lora(2, 4.0, targets=["in_proj"])])
def test_outputs_and_gradients_are_those_of_transformers(kind, lora):
    language = tiny_language(kind)
    if lora is not None:
        add_adapters(language.model, lora)
        randomise(language)
    tokens, cu_seqlens = stream(language)
    found = language.logits(language(tokens, cu_seqlens))
    ours = gradients(language, found)
    expected = torch.cat([language.model(input_ids=each[None]).logits[0] for each in tokens.split(LENGTHS)])
    assert relative_error(found, expected) < 1e-5
    for name, gradient in gradients(language, expected).items():
        assert relative_error(ours[name], gradient) < 1e-4, name


@each_kind
def test_padding_on_the_left_with_a_mask_is_no_padding(kind):
    language = tiny_language(kind)
    tokens, cu_seqlens = stream(language)
    parts, longest = tokens.split(LENGTHS), max(LENGTHS)
    padded = torch.stack([torch.nn.functional.pad(each, (longest - len(each), 0), value=5) for each in parts])
    mask = torch.stack([(torch.arange(longest) >= longest - len(each)).long() for each in parts])
    with torch.no_grad():
        theirs = language.model(input_ids=padded, attention_mask=mask).logits
        ours = language.logits(language(tokens, cu_seqlens))
    assert relative_error(ours, theirs[mask.bool()]) < 1e-5


@each_kind
@pytest.mark.parametrize("lora", [None, Lora(2, 4.0, targets=["in_proj"])])
def test_a_kept_state_goes_on_with_any_number_of_tokens(kind, lora):
    """In one step, in several at once, in none."""
    language = tiny_language(kind)
    if lora is not None:
        add_adapters(language.model, lora)
        randomise(language)
    tokens, cu_seqlens = stream(language)
    parts = tokens.split(LENGTHS)
    with torch.no_grad():
        whole = language(tokens, cu_seqlens).split(LENGTHS)
        hidden, state = language.packed.prefill(torch.cat([part[:1] for part in parts]), borders((1, 1, 1)))
        torch.testing.assert_close(hidden, torch.stack([part[0] for part in whole]))
        more = (2, 0, 7)
        new = torch.cat([part[1 : 1 + n] for part, n in zip(parts, more, strict=True)])
        hidden, state = language.packed.extend(new, borders(more), state)
        expected = torch.cat([part[1 : 1 + n] for part, n in zip(whole, more, strict=True)])
        torch.testing.assert_close(hidden, expected)
        rows = torch.tensor([2, 0, 2])
        branches = [tuple(each[rows] for each in layer) for layer in state]
        hidden, _ = language.packed.step(torch.stack([parts[2][8], parts[0][3], parts[2][8]]), branches)
        torch.testing.assert_close(hidden, torch.stack([whole[2][8], whole[0][3], whole[2][8]]))
