"""What ``ssd`` and ``selective_scan`` both promise: cases to try them on, and checks of each promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from packed_cases import (
    alone,
    assert_same_bits,
    borders,
    compiled,
    randn,
    relative_error,
    sequence_lengths,
    slices,
    without,
)
from torch import Tensor

from recbole_ssm import ops
from recbole_ssm.ops.selective_state_space import reference as selection
from recbole_ssm.ops.state_space_duality import reference as duality

TOLERANCE = {torch.float64: (1e-9, 1e-9), torch.float32: (1e-5, 1e-4)}
"""Relative error of everything, and of the gradients of dt and A, which are sums of terms that nearly cancel."""

EXTREME_TOLERANCE = {torch.float64: (1e-6, 1e-6), torch.float32: (1e-5, 1e-4)}
"""The same at extreme decays: one below exp(-20) may count as exp(-20)."""

ROUNDING = {torch.float64: (1e-13, 1e-12), torch.float32: (1e-5, 1e-4)}
"""The same for two ways to sum up the same numbers."""

PER_TOKEN = ("y", "x", "dt", "B", "C")
PER_SEQUENCE = ("state", "initial_state")


@dataclass(frozen=True)
class ScanCase:
    """Inputs of a scan, in few numbers, so that a failure can be read and repeated.

    Attributes:
        lengths: of the sequences.
        d_state: N.
        extreme: decay ``dt A`` of a step between 1e-6 and 1e3 and mixed, with steps of dt = 0 among them.
        reverse: as in the ops.
        skip: whether D is given.
        initial: whether an initial state is given.
        seed: of all values.
    """

    lengths: tuple[int, ...]
    d_state: int = 8
    extreme: bool = False
    reverse: bool = False
    skip: bool = True
    initial: bool = True
    seed: int = 0

    op: ClassVar[Callable]
    recurrence: ClassVar[Callable]
    name: ClassVar[str]

    def shapes(self) -> dict[str, tuple]:
        """Shapes by the names of the arguments, without T and S in front."""
        raise NotImplementedError

    def inputs(self, dtype: torch.dtype = torch.float64, *, states: bool = True) -> dict[str, Tensor]:
        """Tensors by the names of the arguments (u of ``selective_scan`` is x here); no state without ``states``."""
        generator = torch.Generator().manual_seed(self.seed)
        shapes, T, S = self.shapes(), sum(self.lengths), len(self.lengths)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        def power_of_ten(low: float, high: float, *shape: int) -> Tensor:
            return 10 ** (low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=generator))

        inputs = {name: normal(T, *shapes[name]) for name in ("x", "dt")}
        if self.extreme:
            inputs["dt"] = power_of_ten(-3, 0, T, *shapes["dt"])
            inputs["dt"][torch.rand(T, *shapes["dt"], generator=generator) < 0.15] = 0.0
            inputs["A"] = -power_of_ten(-3, 3, *shapes["A"])
        else:
            inputs["dt"] = F.softplus(inputs["dt"] - 1)
            inputs["A"] = -power_of_ten(-0.5, 0.5, *shapes["A"])
        inputs |= {name: normal(T, *shapes[name]) for name in ("B", "C")}
        if self.skip:
            inputs["D"] = normal(*shapes["D"])
        if self.initial and states:
            inputs["initial_state"] = normal(S, *shapes["state"])
        return {name: tensor.to(dtype) for name, tensor in inputs.items()}

    @property
    def cu_seqlens(self) -> Tensor:
        """Borders of the sequences."""
        return borders(self.lengths)


@dataclass(frozen=True)
class SsdCase(ScanCase):
    """Inputs of ``ssd``; every group has ``heads_per_group`` heads."""

    groups: int = 1
    heads_per_group: int = 1
    headdim: int = 4

    op = staticmethod(ops.ssd)
    recurrence = staticmethod(duality.ssd)
    name = "ssd"

    def shapes(self) -> dict[str, tuple]:
        """See :meth:`ScanCase.shapes`."""
        H, P, G, N = self.groups * self.heads_per_group, self.headdim, self.groups, self.d_state
        return {"x": (H, P), "dt": (H,), "A": (H,), "B": (G, N), "C": (G, N), "D": (H,), "state": (H, P, N)}


@dataclass(frozen=True)
class SelectiveScanCase(ScanCase):
    """Inputs of ``selective_scan``."""

    channels: int = 4

    op = staticmethod(ops.selective_scan)
    recurrence = staticmethod(selection.selective_scan)
    name = "selective_scan"

    def shapes(self) -> dict[str, tuple]:
        """See :meth:`ScanCase.shapes`."""
        E, N = self.channels, self.d_state
        return {"x": (E,), "dt": (E,), "A": (E, N), "B": (N,), "C": (N,), "D": (E,), "state": (E, N)}


def _cases(kind, fixed: dict, **sizes):
    drawn = {
        "lengths": sequence_lengths(),
        "d_state": st.sampled_from([1, 3, 8, 16]),
        "reverse": st.booleans(),
        "skip": st.booleans(),
        "initial": st.booleans(),
        "seed": st.integers(0, 2**20),
        **sizes,
    }
    return st.builds(kind, **{**drawn, **{name: st.just(value) for name, value in fixed.items()}})


def ssd_cases(**fixed):
    """Strategy for :class:`SsdCase`; what is ``fixed`` is not drawn."""
    few = st.sampled_from([1, 2, 3])
    return _cases(SsdCase, fixed, groups=few, heads_per_group=few, headdim=st.sampled_from([1, 4, 5]))


def selective_scan_cases(**fixed):
    """Strategy for :class:`SelectiveScanCase`; what is ``fixed`` is not drawn."""
    return _cases(SelectiveScanCase, fixed, channels=st.sampled_from([1, 5, 8, 17]))


def call(op: Callable, inputs: dict[str, Tensor], cu_seqlens: Tensor, **options):
    """Call a scan, or its recurrence, on inputs by name."""
    given = dict(inputs)
    positional = [given.pop(name) for name in ("x", "dt", "A", "B", "C")]
    return op(*positional, cu_seqlens, **given, **options)


def evaluate(
    op: Callable, inputs: dict[str, Tensor], cu_seqlens: Tensor, *, use: tuple[str, ...] = ("y", "state"), **options
) -> dict[str, Tensor]:
    """Outputs of a scan, and the gradient of every input for fixed random gradients of the outputs.

    Args:
        op: a function that returns y and the final state, or only y.
        inputs: tensors by name.
        cu_seqlens: borders.
        use: which of the outputs the loss depends on.
        options: more arguments of ``op``.
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
    result = call(op, leaves, cu_seqlens, **options)
    outputs = dict(zip(("y", "state"), result if isinstance(result, tuple) else (result,), strict=False))
    loss = sum(
        (output * randn(*output.shape, seed=len(name)).to(output.dtype)).sum()
        for name, output in outputs.items()
        if name in use
    )
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    found = {name: output.detach() for name, output in outputs.items()}
    return found | {f"grad {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}


def assert_near(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: tuple[float, float]) -> None:
    """Compare outputs and gradients by name; ``tolerance`` as in ``TOLERANCE``."""
    assert actual.keys() == expected.keys()
    errors = {}
    for name, value in actual.items():
        cancels = name in ("grad dt", "grad A")
        error = relative_error(value, expected[name], floor=0.1 if cancels else 1e-3)
        if error > tolerance[cancels]:
            errors[name] = error
    assert not errors


def of_sequence(inputs: dict[str, Tensor], tokens: slice, sequence: int) -> dict[str, Tensor]:
    """The inputs of one sequence alone."""
    part = {name: tensor[tokens] if name in PER_TOKEN else tensor for name, tensor in inputs.items()}
    if "initial_state" in inputs:
        part["initial_state"] = inputs["initial_state"][sequence : sequence + 1]
    return part


def of_others(found: dict[str, Tensor], tokens: slice, sequence: int) -> dict[str, Tensor]:
    """What belongs to the other sequences in a result of :func:`evaluate`. A and D belong to all."""
    others = {}
    for name, value in found.items():
        kind = name.removeprefix("grad ")
        if kind in PER_TOKEN:
            others[name] = torch.cat([value[: tokens.start], value[tokens.stop :]])
        elif kind in PER_SEQUENCE:
            others[name] = torch.cat([value[:sequence], value[sequence + 1 :]])
    return others


def with_other_values(inputs: dict[str, Tensor], tokens: slice, sequence: int) -> dict[str, Tensor]:
    """The inputs with every value of one sequence replaced, and nothing else."""
    changed = {name: tensor.clone() for name, tensor in inputs.items()}
    for number, (name, tensor) in enumerate(changed.items()):
        part = tensor[tokens] if name in PER_TOKEN else tensor[sequence] if name in PER_SEQUENCE else None
        if part is not None:
            values = randn(*part.shape, seed=100 + number).to(part.dtype)
            part.copy_(F.softplus(values) if name == "dt" else values)
    return changed


# Each check is of one promise. Scans have one way with states, given or asked for, and may have another one without.


def check_recurrence(case: ScanCase, dtype, tolerance: dict = TOLERANCE, use: tuple[str, ...] = ("y", "state")) -> None:
    """Outputs, final states and the gradient of every input are those of the recurrence in float64."""
    inputs = case.inputs(dtype)
    found = evaluate(case.op, inputs, case.cu_seqlens, use=use, reverse=case.reverse, return_final_state=True)
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    expected = evaluate(case.recurrence, exact, case.cu_seqlens, use=use, reverse=case.reverse)
    assert all(value.dtype == dtype for value in found.values())
    assert_near(found, expected, tolerance[dtype])


def check_recurrence_without_states(case: ScanCase, dtype, tolerance: dict = TOLERANCE) -> None:
    """The same where no state is given or asked for."""
    inputs = case.inputs(dtype, states=False)
    found = evaluate(case.op, inputs, case.cu_seqlens, reverse=case.reverse)
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    expected = evaluate(case.recurrence, exact, case.cu_seqlens, use=("y",), reverse=case.reverse)
    assert_near(found, without(expected, "state"), tolerance[dtype])


def check_packing(case: ScanCase, *, states: bool) -> None:
    """A packed stream gives what its sequences give one at a time."""
    op = partial(case.op, reverse=case.reverse, return_final_state=states)
    inputs = case.inputs(states=states)
    packed = call(op, inputs, case.cu_seqlens)
    for s, tokens in enumerate(slices(case.lengths)):
        single = call(op, of_sequence(inputs, tokens, s), alone(case.lengths[s]))
        if states:
            torch.testing.assert_close(packed[0][tokens], single[0])
            torch.testing.assert_close(packed[1][s : s + 1], single[1])
        else:
            torch.testing.assert_close(packed[tokens], single)


def check_isolation(case: ScanCase, dtype, *, states: bool) -> None:
    """Not a bit of the outputs and gradients of the others moves when the second or the third sequence changes.

    But for ``ssd`` without states in PyTorch: the chunks of its matrix products cut the stream regardless of borders,
    and how decays are scaled within a chunk is a matter of all its tokens. There nothing but rounding moves.
    """
    op = partial(case.op, reverse=case.reverse, return_final_state=states)
    inputs = case.inputs(dtype, states=states)
    before = evaluate(op, inputs, case.cu_seqlens)
    for sequence, tokens in list(enumerate(slices(case.lengths)))[1:3]:
        after = evaluate(op, with_other_values(inputs, tokens, sequence), case.cu_seqlens)
        assert not torch.equal(before["y"], after["y"])
        kept, same = (of_others(found, tokens, sequence) for found in (before, after))
        if case.name == "ssd" and not states and not compiled(dtype):
            assert_near(same, kept, ROUNDING[dtype])
        else:
            assert_same_bits(same, kept)


def check_gradients_stay_within_borders(case: ScanCase, dtype, *, states: bool) -> None:
    """A loss that reads only the second or the third sequence has gradients of exactly zero at all others."""
    inputs = case.inputs(dtype, states=states)
    for sequence, tokens in list(enumerate(slices(case.lengths)))[1:3]:

        def one_sequence(*arguments, tokens=tokens, sequence=sequence, **options):
            result = case.op(*arguments, reverse=case.reverse, return_final_state=states, **options)
            return (result[0][tokens], result[1][sequence]) if states else result[tokens]

        found = evaluate(one_sequence, inputs, case.cu_seqlens)
        assert found["grad x"][tokens].all()
        for name, gradient in of_others(without(found, "y", "state"), tokens, sequence).items():
            assert not gradient.any(), (name, sequence)


def check_state_carries_on(case: ScanCase, dtype, cut: int) -> None:
    """One sequence in two pieces, the state handed over, gives what it gives in one."""
    op = partial(case.op, reverse=case.reverse, return_final_state=True)
    (length,) = case.lengths
    inputs = case.inputs(dtype)
    y, final = call(op, inputs, case.cu_seqlens)
    pieces = [slice(0, cut), slice(cut, length)]
    outputs, state = {}, {name: inputs[name] for name in ("initial_state",) if name in inputs}
    for piece in reversed(pieces) if case.reverse else pieces:
        part = of_sequence(without(inputs, "initial_state"), piece, 0)
        outputs[piece.start], last = call(op, part | state, alone(piece.stop - piece.start))
        state = {"initial_state": last}
    torch.testing.assert_close(torch.cat([outputs[0], outputs[cut]]), y, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state["initial_state"], final, rtol=1e-4, atol=1e-5)


def check_asking_for_the_state_changes_no_output(case: ScanCase, dtype) -> None:
    """``return_final_state`` adds the state and leaves y as it is."""
    inputs = case.inputs(dtype, states=False)
    y = call(case.op, inputs, case.cu_seqlens, reverse=case.reverse)
    same, _ = call(case.op, inputs, case.cu_seqlens, reverse=case.reverse, return_final_state=True)
    assert isinstance(y, Tensor)
    torch.testing.assert_close(same, y, rtol=1e-4, atol=1e-5)


def check_each_gradient_alone(case: ScanCase, dtype, *, states: bool) -> None:
    """Inputs that need no gradient do not disturb those that do, and without any the outputs are the same."""
    inputs = case.inputs(dtype, states=states)
    found = evaluate(case.op, inputs, case.cu_seqlens)
    for name in inputs:
        leaf = inputs[name].clone().requires_grad_()
        y = call(case.op, inputs | {name: leaf}, case.cu_seqlens)
        (gradient,) = torch.autograd.grad((y * randn(*y.shape, seed=len("y")).to(dtype)).sum(), [leaf])
        assert_near({f"grad {name}": gradient}, {f"grad {name}": found[f"grad {name}"]}, TOLERANCE[dtype])
    with torch.no_grad():
        torch.testing.assert_close(call(case.op, inputs, case.cu_seqlens), found["y"])


def check_memory_layout(case: ScanCase, dtype, *, states: bool) -> None:
    """Inputs cut out of wider tensors, as layers hand them over, or transposed, and an expanded gradient."""

    def strided(tensor: Tensor) -> Tensor:
        return torch.cat([torch.full_like(tensor, torch.nan), tensor], -1)[..., tensor.shape[-1] :]

    def transposed(tensor: Tensor) -> Tensor:
        return tensor.movedim(0, -1).contiguous().movedim(-1, 0)

    inputs = case.inputs(dtype, states=states)
    found = []
    for layout in (torch.Tensor.contiguous, strided, transposed):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
        y = call(case.op, {name: layout(tensor) for name, tensor in leaves.items()}, case.cu_seqlens)
        gradients = torch.autograd.grad(y.sum(), list(leaves.values()))
        found.append({"y": y.detach()} | {f"grad {name}": g for name, g in zip(leaves, gradients, strict=True)})
    assert_near(found[1], found[0], ROUNDING[dtype])
    assert_near(found[2], found[0], ROUNDING[dtype])


def check_inputs_stay_as_they_are(case: ScanCase, dtype) -> None:
    """Neither pass writes into its arguments."""
    inputs = case.inputs(dtype)
    kept = {name: tensor.clone() for name, tensor in inputs.items()}
    evaluate(case.op, inputs, case.cu_seqlens, reverse=case.reverse, return_final_state=True)
    evaluate(case.op, without(inputs, "initial_state"), case.cu_seqlens, reverse=case.reverse)
    assert_same_bits(inputs, kept)


def check_borders_of_either_type(case: ScanCase, dtype) -> None:
    """``cu_seqlens`` in int32 and in int64 mean the same."""
    inputs = case.inputs(dtype)
    found = [
        evaluate(case.op, inputs, case.cu_seqlens.to(kind), reverse=case.reverse, return_final_state=True)
        for kind in (torch.int32, torch.int64)
    ]
    assert_same_bits(found[1], found[0])


def check_threads(case: ScanCase, dtype) -> None:
    """More threads change nothing but the order of sums over channels."""
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)  # the fixture torch_for_tests sets it back
        inputs = case.inputs(dtype)
        found.append(evaluate(case.op, inputs, case.cu_seqlens, reverse=case.reverse, return_final_state=True))
    assert_near(found[1], found[0], ROUNDING[dtype])


def check_mixed_types(case: ScanCase) -> None:
    """One float64 tensor among float32 ones gives the right outputs or an error, but never other outputs."""
    inputs = case.inputs(torch.float32)
    exact = {name: tensor.double() for name, tensor in inputs.items()}
    expected, _ = call(case.recurrence, exact, case.cu_seqlens)
    for name in inputs:
        try:
            y = call(case.op, inputs | {name: exact[name]}, case.cu_seqlens)
        except (RuntimeError, TypeError, ValueError):
            continue
        assert relative_error(y, expected) < 1e-5, name


def check_sizes(case: ScanCase, dtype, *, states: bool) -> None:
    """Tensors that are too short, and borders beyond the end, are refused."""
    inputs = case.inputs(dtype, states=states)
    last = case.cu_seqlens[-1]
    for name in ("dt", "B", "C"):
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            call(case.op, inputs | {name: inputs[name][:-3]}, case.cu_seqlens)
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        call(case.op, inputs, torch.cat([case.cu_seqlens[:-1], last[None] + 1]))


def check_second_derivative(case: ScanCase, dtype, *, states: bool) -> None:
    """A derivative of the gradient is right or refused, but never another one."""
    inputs = case.inputs(dtype, states=states)
    found = []
    for op in (case.op, lambda *arguments, **options: case.recurrence(*arguments, **options)[0]):
        kind = dtype if op is case.op else torch.float64
        leaf = inputs["B"].to(kind).requires_grad_()
        given = {name: tensor.to(kind) for name, tensor in inputs.items()} | {"B": leaf}
        y = call(op, given, case.cu_seqlens)
        try:
            (gradient,) = torch.autograd.grad((y**3).sum(), [leaf], create_graph=True)
            found.extend(torch.autograd.grad((gradient**2).sum(), [leaf]))
        except RuntimeError:
            return
    assert relative_error(*found) < 1e-3


def check_backward_pass(case: ScanCase, *, states: bool) -> None:
    """``gradcheck``: the backward pass against differences of the forward pass."""
    inputs = case.inputs(states=states)

    def function(*tensors):
        named = dict(zip(inputs, tensors, strict=True))
        return call(case.op, named, case.cu_seqlens, reverse=case.reverse, return_final_state=states)

    assert torch.autograd.gradcheck(function, [tensor.requires_grad_() for tensor in inputs.values()], fast_mode=True)
