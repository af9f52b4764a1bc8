"""The convolutions, against their sums written out and against ``nn.Conv1d``."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from packed_cases import alone, assert_same_bits, borders, randn, relative_error, sequence_lengths, slices
from torch import nn

from recbole_ssm.ops import causal_conv1d, centred_conv1d
from recbole_ssm.ops.convolution.reference import depthwise_conv1d

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
LENGTHS = (7, 1, 12, 2, 5)


def backward(x, weight, bias, cu_seqlens, **options):
    """The causal convolution that runs from the end."""
    return causal_conv1d(x, weight, bias, cu_seqlens, reverse=True, **options)


def expected(op, x, weight, bias, cu_seqlens, activation="silu"):
    """``op`` by the sum in the reference."""
    width = weight.shape[1]
    if op is backward:
        weight, ahead = weight.flip(1), width - 1
    else:
        ahead = width // 2 if op is centred_conv1d else 0
    y = depthwise_conv1d(x, weight, bias, cu_seqlens, ahead=ahead)
    return F.silu(y) if activation else y


def inputs_of(lengths, channels, width, dtype=torch.float64, seed=0):
    shapes = {"x": (sum(lengths), channels), "weight": (channels, width), "bias": (channels,)}
    return {name: randn(*shape, seed=seed + k).to(dtype) for k, (name, shape) in enumerate(shapes.items())}


def evaluate(op, inputs, cu_seqlens, **options):
    """The output, and the gradient of each input for a fixed random gradient of the output."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    y = op(leaves["x"], leaves["weight"], leaves.get("bias"), cu_seqlens, **options)
    gradients = torch.autograd.grad((y * randn(*y.shape, seed=9).to(y.dtype)).sum(), list(leaves.values()))
    return {"y": y.detach()} | {f"grad {name}": g for name, g in zip(leaves, gradients, strict=True)}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("op", [causal_conv1d, backward, centred_conv1d])
@given(
    lengths=sequence_lengths(),
    width=st.integers(1, 7),
    channels=st.sampled_from([1, 3, 8, 17, 33]),
    with_bias=st.booleans(),
    activation=st.sampled_from(["silu", None]),
    seed=st.integers(0, 1000),
)
@example(lengths=LENGTHS, width=5, channels=5, with_bias=True, activation="silu", seed=0)
@example(lengths=LENGTHS, width=3, channels=1, with_bias=False, activation=None, seed=0)
def test_equals_the_sum(dtype, op, lengths, width, channels, with_bias, activation, seed):
    """Also where the convolution is wider than a sequence is long."""
    width = width | 1 if op is centred_conv1d else width
    inputs = inputs_of(lengths, channels, width, dtype, seed)
    if not with_bias:
        del inputs["bias"]
    found = evaluate(op, inputs, borders(lengths), activation=activation)
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    want = evaluate(lambda *a, **o: expected(op, *a, **o), exact, borders(lengths), activation=activation)
    assert found["y"].dtype == dtype
    errors = {name: relative_error(found[name], want[name], floor=1e-3) for name in want}
    assert max(errors.values()) < TOLERANCE[dtype], errors


@pytest.mark.parametrize("width", [15, 16, 17, 33])
def test_wide_convolutions(dtype, width):
    """Wider than any sequence here, and than a backend may be made for."""
    for op in (causal_conv1d, backward, centred_conv1d):
        inputs = inputs_of(LENGTHS, 3, width | 1 if op is centred_conv1d else width, dtype)
        found = op(**inputs, cu_seqlens=borders(LENGTHS))
        exact = {name: tensor.double() for name, tensor in inputs.items()}
        assert relative_error(found, expected(op, **exact, cu_seqlens=borders(LENGTHS))) < TOLERANCE[dtype]


@pytest.mark.parametrize("op", [causal_conv1d, backward, centred_conv1d])
def test_memory_layout_does_not_matter(dtype, op):
    """An input cut out of a wider tensor, as layers hand it over, or transposed, and an expanded gradient."""
    inputs = inputs_of(LENGTHS, 9, 5, dtype)
    x = inputs["x"]
    wide = torch.cat([torch.full_like(x, torch.nan), x], 1)
    found = []
    for layout in (x, wide[:, 9:], x.T.contiguous().T):
        leaf = layout.detach().requires_grad_()
        y = op(**inputs | {"x": leaf}, cu_seqlens=borders(LENGTHS))
        found.append((y.detach(), *torch.autograd.grad(y.sum(), [leaf])))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


@pytest.mark.parametrize("op", [causal_conv1d, backward, centred_conv1d])
def test_each_gradient_alone_equals_all_at_once(dtype, op):
    inputs = inputs_of(LENGTHS, 9, 5, dtype)
    kept = {name: tensor.clone() for name, tensor in inputs.items()}
    found = evaluate(op, inputs, borders(LENGTHS))
    for name in inputs:
        leaf = inputs[name].clone().requires_grad_()
        y = op(**inputs | {name: leaf}, cu_seqlens=borders(LENGTHS))
        (gradient,) = torch.autograd.grad((y * randn(*y.shape, seed=9).to(dtype)).sum(), [leaf])
        torch.testing.assert_close(gradient, found[f"grad {name}"])
    with torch.no_grad():
        torch.testing.assert_close(op(**inputs, cu_seqlens=borders(LENGTHS)), found["y"])
    assert_same_bits(inputs, kept)


@pytest.mark.parametrize("op", [causal_conv1d, backward, centred_conv1d])
def test_threads_change_nothing(dtype, op):
    """Also where they do not share the channels evenly."""
    inputs = inputs_of(LENGTHS, 56, 5, dtype)
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)  # the fixture torch_for_tests sets it back
        found.append(evaluate(op, inputs, borders(LENGTHS)))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("dtype", ["float32", "float32-compiled"], indirect=True)
def test_mixed_types_are_right_or_refused(dtype):
    """One float64 tensor among float32 ones gives the right output or an error, but never another output."""
    inputs = inputs_of(LENGTHS, 9, 4, dtype)
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    want = causal_conv1d(**exact, cu_seqlens=borders(LENGTHS))
    for name in inputs:
        try:
            found = causal_conv1d(**inputs | {name: exact[name]}, cu_seqlens=borders(LENGTHS))
        except (RuntimeError, TypeError, ValueError):
            continue
        assert relative_error(found, want) < 1e-5, name


def test_sizes_that_do_not_fit_are_refused(dtype):
    inputs = inputs_of(LENGTHS, 9, 4, dtype)
    for name in ("weight", "bias"):
        with pytest.raises((RuntimeError, ValueError)):
            causal_conv1d(**inputs | {name: inputs[name][:-3]}, cu_seqlens=borders(LENGTHS))
    with pytest.raises((RuntimeError, ValueError)):
        causal_conv1d(**inputs, cu_seqlens=borders((*LENGTHS, 1)))


def test_second_derivatives_are_right_or_refused(dtype):
    inputs = inputs_of(LENGTHS, 9, 4, dtype)
    found = []
    for kind in (dtype, torch.float64):
        leaf = inputs["weight"].to(kind).requires_grad_()
        y = causal_conv1d(inputs["x"].to(kind), leaf, inputs["bias"].to(kind), borders(LENGTHS))
        (gradient,) = torch.autograd.grad((y**3).sum(), [leaf], create_graph=True)
        try:
            found.extend(torch.autograd.grad((gradient**2).sum(), [leaf]))
        except RuntimeError:
            return
    assert relative_error(*found) < 1e-3


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_borders_of_either_type(dtype, kind):
    inputs = inputs_of(LENGTHS, 9, 3, dtype)
    for op in (causal_conv1d, backward, centred_conv1d):
        found = op(**inputs, cu_seqlens=borders(LENGTHS).to(kind))
        assert torch.equal(found, op(**inputs, cu_seqlens=borders(LENGTHS)))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_causal_equals_a_layer_padded_on_the_left(length, width):
    layer = nn.Conv1d(6, 6, width, groups=6, padding=width - 1, dtype=torch.float64)
    x = randn(length, 6)
    y = causal_conv1d(x, layer.weight.squeeze(1), layer.bias, alone(length), activation=None)
    torch.testing.assert_close(y, layer(x.T[None])[0, :, :length].T)


@pytest.mark.parametrize("width", [1, 3, 5, 7])
@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_centred_equals_a_layer_padded_on_both_sides(length, width):
    layer = nn.Conv1d(6, 6, width, groups=6, padding=width // 2, dtype=torch.float64)
    x = randn(length, 6)
    y = centred_conv1d(x, layer.weight.squeeze(1), layer.bias, alone(length))
    torch.testing.assert_close(y, F.silu(layer(x.T[None])[0].T))


def test_reverse_is_the_convolution_of_the_reversed_sequence():
    inputs = inputs_of((9,), 3, 4)
    mirrored = causal_conv1d(inputs["x"].flip(0), inputs["weight"], inputs["bias"], alone(9)).flip(0)
    torch.testing.assert_close(backward(**inputs, cu_seqlens=alone(9)), mirrored)


@pytest.mark.parametrize("op", [causal_conv1d, backward, centred_conv1d])
def test_no_token_sees_another_sequence(dtype, op):
    """Not a bit of the outputs and gradients of the others moves when one sequence changes."""
    inputs = inputs_of(LENGTHS, 5, 5, dtype)
    before = evaluate(op, inputs, borders(LENGTHS))
    for tokens in slices(LENGTHS):
        changed = {name: tensor.clone() for name, tensor in inputs.items()}
        changed["x"][tokens] = randn(*changed["x"][tokens].shape, seed=5).to(dtype)
        after = evaluate(op, changed, borders(LENGTHS))
        assert not torch.equal(before["y"], after["y"])
        others = [
            {name: torch.cat([found[name][: tokens.start], found[name][tokens.stop :]]) for name in ("y", "grad x")}
            for found in (after, before)
        ]
        assert_same_bits(*others)


@pytest.mark.parametrize("op", [causal_conv1d, backward, centred_conv1d])
@given(lengths=sequence_lengths())
def test_packed_equals_one_sequence_at_a_time(op, lengths):
    inputs = inputs_of(lengths, 3, 5)
    y = op(**inputs, cu_seqlens=borders(lengths))
    for tokens in slices(lengths):
        x = inputs["x"][tokens]
        torch.testing.assert_close(y[tokens], op(**inputs | {"x": x}, cu_seqlens=alone(len(x))))


@pytest.mark.parametrize("width", [2, 4])
def test_centred_refuses_an_even_width(width):
    with pytest.raises(ValueError, match=f"odd width.*{width}"):
        centred_conv1d(randn(5, 3), randn(3, width), None, alone(5))


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="relu"):
        causal_conv1d(randn(5, 3), randn(3, 4), None, alone(5), activation="relu")
