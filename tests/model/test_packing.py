"""A history is worth the same alone, in a packed batch and in a padded one."""

import pytest
import torch
from model_cases import LENGTHS, N_ITEMS, each_model, evaluate, make, packed_batch, padded_batch, some_tokens
from packed_cases import alone, assert_same_bits, borders, compiled, relative_error, slices


@each_model
def test_no_token_sees_another_sequence(name, dtype):
    """Not a bit of the outputs and gradients of the others moves when one history changes.

    But for Mamba-2 in PyTorch, whose scan lets rounding move: see ``scan_contract.check_isolation``.
    """
    model = make(name, dtype)
    tokens = some_tokens(sum(LENGTHS))
    before = evaluate(model, tokens, borders(LENGTHS))
    for part in slices(LENGTHS)[1:3]:
        changed = tokens.clone()
        changed[part] = changed[part] % (N_ITEMS - 1) + 1
        after = evaluate(model, changed, borders(LENGTHS))
        assert not torch.equal(after["hidden"], before["hidden"])
        kept, same = (
            {key: torch.cat([value[: part.start], value[part.stop :]]) for key, value in found.items()}
            for found in (before, after)
        )
        if name.startswith("Mamba4Rec") or compiled(dtype):
            assert_same_bits(same, kept)
        else:
            for key in kept:
                assert relative_error(same[key], kept[key]) < (1e-12 if dtype == torch.float64 else 1e-4)


@each_model
def test_packed_equals_one_sequence_at_a_time(name):
    model = make(name)
    tokens = some_tokens(sum(LENGTHS))
    hidden = model.encode(tokens, borders(LENGTHS))
    for part, length in zip(slices(LENGTHS), LENGTHS, strict=True):
        torch.testing.assert_close(hidden[part], model.encode(tokens[part], alone(length)))


@torch.no_grad()
def test_an_empty_history_is_refused():
    with pytest.raises(ValueError, match="history 1 of the batch is empty"):
        make("2Mamba4Rec").full_sort_predict(padded_batch((3, 0, 1)))


@each_model
@torch.no_grad()
def test_packed_batch_equals_padded_batch(name, dtype):
    """Scores and loss do not depend on how the batch came."""
    model = make(name, dtype)
    for function in (model.full_sort_predict, model.predict, model.calculate_loss):
        packed = function(packed_batch())
        torch.testing.assert_close(packed, function(padded_batch()))
        torch.testing.assert_close(packed, function(padded_batch(width=max(LENGTHS))))


@each_model
@pytest.mark.parametrize("layers", [1, 2])
def test_a_readout_is_the_same_tokens_of_the_whole_output(name, layers):
    """What the last layer leaves out for tokens that nobody reads changes nothing, forward and backward."""
    whole, some = make(name, num_layers=layers), make(name, num_layers=layers)
    some.load_state_dict(whole.state_dict())
    batch, rows = packed_batch(), torch.tensor([3, 0, 0, sum(LENGTHS) - 1])
    arguments = batch["item_id_list"], batch["cu_seqlens"]
    expected, actual = whole.encode(*arguments)[rows], some.encode(*arguments, rows)
    torch.testing.assert_close(actual, expected)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (actual * weight).sum().backward()
    for (parameter, a), b in zip(whole.named_parameters(), some.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, msg=lambda text, which=parameter: f"{which}: {text}")
