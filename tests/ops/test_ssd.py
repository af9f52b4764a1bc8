"""``ssd`` is the recurrence of ``ops/reference.py``, in every number type and backend."""

from functools import partial

import pytest
import torch
from hypothesis import given
from packed_cases import (
    SsdCase,
    assert_near,
    assert_same_bits,
    call,
    evaluate,
    of_other_sequences,
    perturbed,
    randn,
    slices,
    ssd_cases,
    without,
)

from recbole_ssm.ops import native, reference, ssd

TOLERANCE = {torch.float64: (1e-9, None), torch.float32: (1e-5, 1e-4)}
EXTREME_TOLERANCE = {torch.float64: (1e-6, None), torch.float32: (1e-5, 1e-4)}
"""A decay below exp(-20) may count as exp(-20)."""

ROUNDING = {torch.float64: (1e-13, 1e-12), torch.float32: (1e-5, 1e-4)}

MIXED = SsdCase((7, 1, 40, 3, 100, 1, 18), d_state=8, groups=2, heads_per_group=2, headdim=4)


def inputs_of(case, dtype):
    return {name: tensor.to(dtype) for name, tensor in case.inputs().items()}


def expected(case, inputs, **options):
    """Outputs and gradients of the recurrence in float64, of inputs as they were rounded."""
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    return evaluate(reference.ssd, exact, case.cu_seqlens, reverse=case.reverse, **options)


def compare(case, dtype, tolerance):
    """Outputs, final states and all gradients against the recurrence."""
    inputs = inputs_of(case, dtype)
    found = evaluate(ssd, inputs, case.cu_seqlens, reverse=case.reverse, return_final_state=True)
    assert all(value.dtype == dtype for value in found.values())
    assert_near(found, expected(case, inputs), *tolerance[dtype])


def compare_without_states(case, dtype, tolerance):
    """Outputs and all gradients against the recurrence, where no state is given or asked for."""
    inputs = inputs_of(case, dtype)
    found = evaluate(ssd, inputs, case.cu_seqlens, reverse=case.reverse)
    assert_near(found, without(expected(case, inputs, use="y"), "state"), *tolerance[dtype])


@given(case=ssd_cases())
def test_equals_the_recurrence(dtype, case):
    compare(case, dtype, TOLERANCE)


@given(case=ssd_cases(initial=False))
def test_equals_the_recurrence_without_states(dtype, case):
    compare_without_states(case, dtype, TOLERANCE)


@given(case=ssd_cases(extreme=True))
def test_equals_the_recurrence_at_extreme_decays(dtype, case):
    compare(case, dtype, EXTREME_TOLERANCE)


@given(case=ssd_cases(extreme=True, initial=False))
def test_equals_the_recurrence_at_extreme_decays_without_states(dtype, case):
    compare_without_states(case, dtype, EXTREME_TOLERANCE)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65])
def test_lengths_around_powers_of_two(length):
    """Where chunks, if there are any, begin and end."""
    for neighbours in ((length,), (1, length), (5, length, 3)):
        case = SsdCase(neighbours, d_state=3, heads_per_group=2, headdim=2, seed=length)
        compare(case, torch.float64, TOLERANCE)
        compare_without_states(SsdCase(neighbours, d_state=3, initial=False), torch.float64, TOLERANCE)


def test_gradient_of_the_state_alone(dtype):
    """A loss that reads only the final state, and none of the outputs."""
    inputs = inputs_of(MIXED, dtype)
    found = evaluate(ssd, inputs, MIXED.cu_seqlens, use="state", return_final_state=True)
    assert_near(found, expected(MIXED, inputs, use="state"), *TOLERANCE[dtype])
    assert not found["grad C"].any()


@pytest.mark.parametrize("reverse", [False, True])
def test_asking_for_the_state_changes_no_output(dtype, reverse):
    inputs = without(inputs_of(MIXED, dtype), "initial_state")
    y = call(ssd, inputs, MIXED.cu_seqlens, reverse=reverse)
    with_state, _ = call(ssd, inputs, MIXED.cu_seqlens, reverse=reverse, return_final_state=True)
    torch.testing.assert_close(y, with_state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_state_carries_a_sequence_on(dtype, reverse):
    """A sequence in two pieces, the state handed over, is the sequence in one."""
    case = SsdCase((30,), d_state=8, groups=2, heads_per_group=2, initial=False)
    whole = inputs_of(case, dtype)
    y, final = call(ssd, whole, case.cu_seqlens, reverse=reverse, return_final_state=True)
    pieces = [slice(0, 11), slice(11, 30)]
    outputs, state = {}, None
    for piece in reversed(pieces) if reverse else pieces:
        part = {name: tensor if name in ("A", "D") else tensor[piece] for name, tensor in whole.items()}
        borders = torch.tensor([0, piece.stop - piece.start])
        outputs[piece.start], state = call(
            ssd, part, borders, initial_state=state, reverse=reverse, return_final_state=True
        )
    torch.testing.assert_close(torch.cat([outputs[0], outputs[11]]), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, final, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sequence", range(len(MIXED.lengths)))
def test_no_token_sees_another_sequence(dtype, states, reverse, sequence):
    """Not a bit of the outputs and gradients of the others moves when one sequence changes.

    But for the matrix products without states in PyTorch: their chunks cut the stream regardless of borders, and how
    decays are scaled within a chunk is a matter of all its tokens. There nothing but rounding moves.
    """
    inputs = inputs_of(MIXED, dtype)
    if not states:
        del inputs["initial_state"]
    tokens = slices(MIXED.lengths)[sequence]
    op = partial(ssd, reverse=reverse, return_final_state=states)
    before = evaluate(op, inputs, MIXED.cu_seqlens)
    after = evaluate(op, perturbed(inputs, tokens, sequence), MIXED.cu_seqlens)
    assert not torch.equal(before["y"], after["y"])
    before, after = (of_other_sequences(found, tokens, sequence) for found in (before, after))
    if states or (dtype == torch.float32 and native.library() is not None):
        assert_same_bits(after, before)
    else:
        assert_near(after, before, *ROUNDING[dtype])


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sequence", range(len(MIXED.lengths)))
def test_no_gradient_crosses_a_border(dtype, states, reverse, sequence):
    """A loss that reads one sequence has gradients of exactly zero at all others."""
    inputs = inputs_of(MIXED, dtype)
    if not states:
        del inputs["initial_state"]
    tokens = slices(MIXED.lengths)[sequence]

    def one_sequence(*arguments, **options):
        result = ssd(*arguments, reverse=reverse, return_final_state=states, **options)
        return (result[0][tokens], result[1][sequence]) if states else result[tokens]

    found = evaluate(one_sequence, inputs, MIXED.cu_seqlens)
    assert found["grad x"][tokens].all()
    for name, gradient in of_other_sequences(without(found, "y", "state"), tokens, sequence).items():
        assert not gradient.any(), name


@pytest.mark.parametrize("states", [False, True])
@given(case=ssd_cases())
def test_packed_equals_one_sequence_at_a_time(states, case):
    inputs = case.inputs()
    if not states:
        inputs.pop("initial_state", None)
    op = partial(ssd, reverse=case.reverse, return_final_state=True)
    y, final = call(op, inputs, case.cu_seqlens)
    for s, tokens in enumerate(slices(case.lengths)):
        alone = {name: tensor if name in ("A", "D") else tensor[tokens] for name, tensor in inputs.items()}
        if "initial_state" in inputs:
            alone["initial_state"] = inputs["initial_state"][s : s + 1]
        y_alone, final_alone = call(op, alone, torch.tensor([0, case.lengths[s]]))
        torch.testing.assert_close(y[tokens], y_alone)
        torch.testing.assert_close(final[s : s + 1], final_alone)


@pytest.mark.parametrize("states", [False, True])
def test_each_gradient_alone_equals_all_at_once(dtype, states):
    """Inputs that need no gradient do not disturb those that do."""
    inputs = inputs_of(MIXED, dtype)
    if not states:
        del inputs["initial_state"]
    found = evaluate(ssd, inputs, MIXED.cu_seqlens)
    for name in inputs:
        leaf = inputs[name].clone().requires_grad_()
        y = call(ssd, {**inputs, name: leaf}, MIXED.cu_seqlens)
        (gradient,) = torch.autograd.grad((y * randn(*y.shape, seed=1).to(dtype)).sum(), [leaf])
        assert_near({f"grad {name}": gradient}, {f"grad {name}": found[f"grad {name}"]}, *TOLERANCE[dtype])


@pytest.mark.parametrize("states", [False, True])
def test_without_grad_mode_equals_with_it(dtype, states):
    inputs = inputs_of(MIXED, dtype)
    if not states:
        del inputs["initial_state"]
    found = evaluate(ssd, inputs, MIXED.cu_seqlens)
    with torch.no_grad():
        torch.testing.assert_close(call(ssd, inputs, MIXED.cu_seqlens), found["y"])


@pytest.mark.parametrize("states", [False, True])
def test_memory_layout_does_not_matter(dtype, states):
    """Inputs cut out of wider or transposed tensors, as layers hand them over, and an expanded gradient."""

    def strided(tensor):
        wide = torch.cat([torch.full_like(tensor, torch.nan), tensor], -1)[..., tensor.shape[-1] :]
        return wide if len(tensor) == sum(MIXED.lengths) else tensor.mT.contiguous().mT if tensor.dim() > 1 else wide

    inputs = inputs_of(MIXED, dtype)
    if not states:
        del inputs["initial_state"]
    gradients = []
    for layout in (torch.Tensor.contiguous, strided):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
        y = call(ssd, {name: layout(tensor) for name, tensor in leaves.items()}, MIXED.cu_seqlens)
        gradients.append(dict(zip(leaves, torch.autograd.grad(y.sum(), list(leaves.values())), strict=True)))
    for name in inputs:
        torch.testing.assert_close(gradients[1][name], gradients[0][name], rtol=1e-4, atol=1e-5)


def test_inputs_stay_as_they_are(dtype):
    """Neither pass writes into its arguments."""
    inputs = inputs_of(MIXED, dtype)
    kept = {name: tensor.clone() for name, tensor in inputs.items()}
    evaluate(ssd, inputs, MIXED.cu_seqlens, reverse=True, return_final_state=True)
    evaluate(ssd, without(inputs, "initial_state"), MIXED.cu_seqlens)
    assert_same_bits(inputs, kept)


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_borders_of_either_type(dtype, kind):
    inputs = inputs_of(MIXED, dtype)
    y = call(ssd, inputs, MIXED.cu_seqlens.to(kind))
    torch.testing.assert_close(y.double(), expected(MIXED, inputs)["y"], rtol=1e-4, atol=1e-4)


def test_gradcheck():
    """The backward pass against differences of the forward pass."""
    case = SsdCase((3, 1, 5), d_state=2, groups=2, headdim=2)
    leaves = [tensor.requires_grad_() for tensor in case.inputs().values()]
    names = list(case.inputs())

    def with_states(*tensors):
        return call(ssd, dict(zip(names, tensors, strict=True)), case.cu_seqlens, return_final_state=True)

    def without_states(*tensors):
        return call(ssd, dict(zip(names[:-1], tensors, strict=True)), case.cu_seqlens)

    assert torch.autograd.gradcheck(with_states, leaves)
    assert torch.autograd.gradcheck(without_states, leaves[:-1])
