"""What every backend of the ops promises, as checks that raise AssertionError."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends import Backend, compute, use_backend
from recbole_ssm.testing.buffers import unwritten_memory_is_nan
from recbole_ssm.testing.op_cases import CASES, Case, Tensors

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 1e-2}
"""Relative error of outputs and gradients."""

_CANCELLING = ("grad dt", "grad A")
"""Sums of terms that nearly cancel: ten times the tolerance."""


def check_backend(
    backend: Backend,
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    tolerance: float | None = None,
    only: str = "",
    after_case: Callable[[str, float], object] | None = None,
) -> dict[str, float]:
    """Check every op of a backend against the op's formula in float64, and what packed streams rely on.

    Outputs and all gradients are those of the formula: forwards and in reverse, with and without states, at extreme
    decays. No token depends on another sequence; inputs stay as they are; their layout in memory does not matter; each
    gradient alone is the same as all at once. Memory that is allocated and not written holds NaN meanwhile. What the
    backend does not take, PyTorch computes; but of each of its ops it must take something.

    Args:
        backend: the object.
        dtype: number type of the inputs. Complex ones are complex128 if it is float64, and complex64 otherwise.
        device: of the inputs.
        tolerance: relative error that is allowed; None: 1e-5 in float32, 1e-9 in float64, 1e-2 in float16, and 2e-2
            in bfloat16.
        only: part of the names of the cases to check, such as ``reverse``; all by default.
        after_case: called with the name and the error of each case that keeps all promises.

    Returns:
        For each op that has a formula, the largest relative error against it.

    Raises:
        AssertionError: the backend breaks a promise; the message names the op, the case and the check.
    """
    tolerance = _TOLERANCE[dtype] if tolerance is None else tolerance
    errors: dict[str, float] = {}
    for op in backend.kernels:
        counted = _Counted(backend, op)
        with use_backend(counted.backend), unwritten_memory_is_nan():
            if op == "dropout":
                _dropout_keeps_its_share(torch.ones(300, 70, dtype=dtype, device=device))
                continue
            for case in CASES[op]():
                if only not in case.name:
                    continue
                error = _checked(_Subject(case, dtype, torch.device(device), tolerance), f"{backend.name}: {op}")
                errors[op] = max(errors.get(op, 0.0), error)
                if after_case is not None:
                    after_case(case.name, error)
        assert counted.calls, f"{backend.name}: {op}: it takes none of the cases in {dtype} on {device}"
    return errors


def _checked(subject: _Subject, where: str) -> float:
    """The error of a case that keeps all promises."""
    for check in CHECKS:
        try:
            check(subject)
        except Exception as error:
            words = check.__name__.replace("_", " ")
            raise AssertionError(f"{where}, {subject.case.name}: {words}: {error}") from error
    return subject.error


class _Counted:
    """A backend that counts how often its kernel of one op is run."""

    def __init__(self, backend: Backend, op: str):
        self.calls = 0
        kernel = backend.kernels[op]

        def run(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return kernel.run(*arguments, **options)

        self.backend = replace(backend, kernels={**backend.kernels, op: replace(kernel, run=run)})


class _Subject:
    """A case in one number type on one device."""

    def __init__(self, case: Case, dtype: torch.dtype, device: torch.device, tolerance: float):
        self.case, self.tolerance = case, max(tolerance, case.error)
        self.error = 0.0
        """The largest against the formula so far."""
        pairs = torch.complex128 if dtype == torch.float64 else torch.complex64
        self.tensors = {
            name: tensor.to(device, pairs if tensor.is_complex() else dtype) for name, tensor in case.tensors.items()
        }
        ends = case.borders.tolist()
        self.slices = [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)][:4]

    def evaluate(self, tensors: Tensors, only: slice | None = None) -> Tensors:
        """Outputs, and gradients of all tensors under fixed random ones of the outputs (``only`` of those tokens)."""
        return _evaluate(self.case.run, tensors, self.case.tokens, only)

    def expected(self) -> Tensors:
        """Outputs and gradients of the formula, in float64, of the rounded inputs."""
        exact = {name: tensor.cpu() for name, tensor in self.tensors.items()}
        exact = {name: t.to(torch.complex128 if t.is_complex() else torch.float64) for name, t in exact.items()}
        return _evaluate(self.case.reference, exact, self.case.tokens)

    def others(self, found: Tensors, sequence: int) -> Tensors:
        """What belongs to the other sequences alone."""
        kept, rows = {}, self.slices[sequence]
        for name, value in found.items():
            kind = name.removeprefix("grad ")
            if kind in self.case.tokens:
                kept[name] = torch.cat([value[: rows.start], value[rows.stop :]])
            elif kind in self.case.sequences:
                kept[name] = torch.cat([value[:sequence], value[sequence + 1 :]])
        return kept

    def assert_near(self, actual: Tensors, expected: Tensors) -> float:
        """Compare by name; the largest error, of gradients that cancel a tenth."""
        largest = 0.0
        for name, value in actual.items():
            share, floor = (10, 0.1) if name in _CANCELLING else (1, 1e-3)
            allowed = share * self.tolerance
            error = relative_error(value.cpu(), expected[name].cpu(), floor)
            largest = max(largest, error / share)
            assert error <= allowed, f"{name} is off by {error:.1e}, and {allowed:.1e} is allowed"
        return largest


def _evaluate(
    run: Callable[[Tensors], Tensors], tensors: Tensors, tokens: Iterable[str], only: slice | None = None
) -> Tensors:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    outputs = run(leaves)
    loss = torch.zeros((), dtype=torch.float64, requires_grad=True)  # also where no output depends on a leaf
    for number, (name, output) in enumerate(outputs.items()):
        read = torch.view_as_real(output) if output.is_complex() else output
        if only is not None:
            read = read[only] if name in tokens else read[:0]
        random = torch.randn(read.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
        loss = loss + (read.cpu().double() * random.bfloat16()).sum()  # which no number type rounds any further
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    found = {name: output.detach() for name, output in outputs.items()}
    return found | {f"grad {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}


def relative_error(actual: Tensor, expected: Tensor, floor: float = 0.0) -> float:
    """Largest error over the largest expected value.

    Args:
        actual: any shape.
        expected: the same shape.
        floor: what the largest expected value counts as, at least.

    Returns:
        The ratio; 0 for no elements.

    Raises:
        AssertionError: shapes differ, or a number is not finite.
    """
    assert actual.shape == expected.shape, f"the shape is {tuple(actual.shape)}, not {tuple(expected.shape)}"
    assert torch.isfinite(actual).all(), "there are numbers that are not finite"
    if not actual.numel():
        return 0.0
    exact = torch.complex128 if actual.is_complex() else torch.float64
    error = (actual.to(exact) - expected.to(exact)).abs().max().item()
    scale = max(expected.abs().max().item(), floor)
    return error / scale if scale else error


def outputs_and_gradients_are_those_of_the_formula(subject: _Subject) -> None:
    """All of them; the first output in the type of the first input, but for a loss."""
    found = subject.evaluate(subject.tensors)
    subject.error = subject.assert_near(found, subject.expected())
    first = next(iter(subject.tensors.values())).dtype
    name, output = next(iter(found.items()))
    assert name == "loss" or output.dtype == first, f"{name} is {output.dtype}, not {first}"


def no_token_depends_on_another_sequence(subject: _Subject) -> None:
    """Outputs and gradients of the others stay when one sequence changes; a loss of one has no gradient at others."""
    if "loss" in subject.evaluate(subject.tensors):
        return  # a sum over all rows
    for sequence, rows in enumerate(subject.slices):
        changed = {name: tensor.clone() for name, tensor in subject.tensors.items()}
        for name, tensor in changed.items():
            part = tensor[rows] if name in subject.case.tokens else tensor[sequence : sequence + 1]
            if name in subject.case.tokens or name in subject.case.sequences:
                part.copy_(part.roll(1, -1) * 0.5 + 0.1)
        after, before = (subject.evaluate(tensors) for tensors in (changed, subject.tensors))
        subject.assert_near(subject.others(after, sequence), subject.others(before, sequence))
        alone = subject.evaluate(subject.tensors, only=rows)
        for name, gradient in subject.others(alone, sequence).items():
            assert not name.startswith("grad ") or not gradient.any(), f"{name} crosses a border"


def inputs_stay_as_they_are(subject: _Subject) -> None:
    """Neither pass writes into its arguments."""
    kept = {name: tensor.clone() for name, tensor in subject.tensors.items()}
    subject.evaluate(subject.tensors)
    for name, tensor in subject.tensors.items():
        assert torch.equal(tensor, kept[name]), f"{name} was overwritten"


def layout_in_memory_does_not_matter(subject: _Subject) -> None:
    """Inputs cut out of wider tensors, as layers hand them over, and transposed ones."""

    def strided(tensor: Tensor) -> Tensor:
        return torch.cat([torch.full_like(tensor, torch.nan), tensor], -1)[..., tensor.shape[-1] :]

    def transposed(tensor: Tensor) -> Tensor:
        return tensor.movedim(0, -1).contiguous().movedim(-1, 0)

    expected = subject.evaluate(subject.tensors)
    for layout in (strided, transposed):
        tensors = {name: layout(tensor) for name, tensor in subject.tensors.items()}
        subject.assert_near(subject.evaluate(tensors), expected)


def each_gradient_alone_is_the_same(subject: _Subject) -> None:
    """Inputs that need no gradient do not disturb those that do; without any, outputs are the same."""
    expected = subject.evaluate(subject.tensors)
    for name, tensor in subject.tensors.items():

        def run(leaf: Tensors, name: str = name) -> Tensors:
            return subject.case.run(subject.tensors | leaf)

        found = _evaluate(run, {name: tensor}, subject.case.tokens)
        subject.assert_near(found, expected)
    with torch.no_grad():
        subject.assert_near(subject.case.run(subject.tensors), expected)


def _dropout_keeps_its_share(ones: Tensor) -> None:
    """Kept elements are scaled, as many as there should be, and others with each call; a seed repeats them."""
    p, found = 0.3, []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        leaf = ones.clone().requires_grad_()
        y = compute("dropout", leaf, p)
        y.backward(torch.full_like(y, 3.0))
        assert leaf.grad is not None
        assert torch.allclose(leaf.grad, 3.0 * y), "dropout: the gradient does not pass where the value did"
        found.append(y.detach())
    kept = found[0] != 0
    assert torch.allclose(found[0][kept], (ones / (1 - p))[kept]), "dropout: kept elements are not scaled"
    share, deviation = kept.double().mean().item(), (p * (1 - p) / ones.numel()) ** 0.5
    assert abs(share - (1 - p)) < 5 * deviation, f"dropout: {share:.3f} are kept, not {1 - p}"
    assert torch.equal(found[0], found[1]), "dropout: a seed of torch does not repeat it"
    assert not torch.equal(found[0], found[2]), "dropout: the same elements are dropped in every call"


CHECKS: tuple[Callable[[_Subject], None], ...] = (
    inputs_stay_as_they_are,
    outputs_and_gradients_are_those_of_the_formula,
    no_token_depends_on_another_sequence,
    layout_in_memory_does_not_matter,
    each_gradient_alone_is_the_same,
)
