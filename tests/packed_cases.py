"""Random packed batches, what the scans make of them, and how far that is from the recurrences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from recbole_ssm.ops.packing import cumulative_lengths


@st.composite
def sequence_lengths(draw) -> tuple[int, ...]:
    """One to six sequences of 1 to 40 tokens, at times with one of 100 among them."""
    lengths = draw(st.lists(st.one_of(st.just(1), st.integers(1, 40)), min_size=1, max_size=6))
    if draw(st.integers(0, 4)) == 4:
        lengths.insert(draw(st.integers(0, len(lengths))), 100)
    return tuple(lengths)


def borders(lengths) -> Tensor:
    """``cu_seqlens`` of sequences of these lengths."""
    return cumulative_lengths(torch.tensor(lengths))


def slices(lengths) -> list[slice]:
    """The tokens of each sequence."""
    ends = borders(lengths).tolist()
    return [slice(start, end) for start, end in zip(ends, ends[1:], strict=False)]


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64, always the same for a seed."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class ScanCase:
    """Inputs of a scan, in few numbers so that a failure can be read and repeated.

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
    d_state: int
    extreme: bool = False
    reverse: bool = False
    skip: bool = True
    initial: bool = True
    seed: int = 0

    def _inputs(self, x: tuple, dt: tuple, A: tuple, BC: tuple, D: tuple, state: tuple) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        T, S = sum(self.lengths), len(self.lengths)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        def power_of_ten(low: float, high: float, *shape: int) -> Tensor:
            return 10 ** (low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=generator))

        if self.extreme:
            step = power_of_ten(-3, 0, T, *dt)
            step[torch.rand(T, *dt, generator=generator) < 0.15] = 0.0
            rate = -power_of_ten(-3, 3, *A)
        else:
            step = F.softplus(normal(T, *dt) - 1)
            rate = -power_of_ten(-0.5, 0.5, *A)
        inputs = {"x": normal(T, *x), "dt": step, "A": rate, "B": normal(T, *BC), "C": normal(T, *BC)}
        if self.skip:
            inputs["D"] = normal(*D)
        if self.initial:
            inputs["initial_state"] = normal(S, *state)
        return inputs

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

    def inputs(self) -> dict[str, Tensor]:
        """Tensors by the names of the arguments, in float64."""
        H, P, N = self.groups * self.heads_per_group, self.headdim, self.d_state
        return self._inputs((H, P), (H,), (H,), (self.groups, N), (H,), (H, P, N))


@dataclass(frozen=True)
class SelectiveScanCase(ScanCase):
    """Inputs of ``selective_scan``; its u is called x here."""

    channels: int = 4

    def inputs(self) -> dict[str, Tensor]:
        """Tensors by the names of the arguments, in float64."""
        E, N = self.channels, self.d_state
        return self._inputs((E,), (E,), (E, N), (N,), (E,), (E, N))


_SEEDS = st.integers(0, 2**20)


def ssd_cases(**fixed):
    """Strategy for :class:`SsdCase`; what is ``fixed`` is not drawn."""
    drawn = {
        "lengths": sequence_lengths(),
        "d_state": st.sampled_from([1, 3, 8, 16]),
        "reverse": st.booleans(),
        "skip": st.booleans(),
        "initial": st.booleans(),
        "seed": _SEEDS,
        "groups": st.sampled_from([1, 2, 3]),
        "heads_per_group": st.sampled_from([1, 2, 3]),
        "headdim": st.sampled_from([1, 4, 5]),
    }
    return st.builds(SsdCase, **{**drawn, **{name: st.just(value) for name, value in fixed.items()}})


def selective_scan_cases(**fixed):
    """Strategy for :class:`SelectiveScanCase`; what is ``fixed`` is not drawn."""
    drawn = {
        "lengths": sequence_lengths(),
        "d_state": st.sampled_from([1, 3, 8, 16]),
        "reverse": st.booleans(),
        "skip": st.booleans(),
        "initial": st.booleans(),
        "seed": _SEEDS,
        "channels": st.sampled_from([1, 5, 8, 17]),
    }
    return st.builds(SelectiveScanCase, **{**drawn, **{name: st.just(value) for name, value in fixed.items()}})


def call(op: Callable, inputs: dict[str, Tensor], cu_seqlens: Tensor, **options):
    """Call a scan, or its reference, on inputs by name."""
    given = dict(inputs)
    positional = [given.pop(name) for name in ("x", "dt", "A", "B", "C")]
    return op(*positional, cu_seqlens, **given, **options)


def evaluate(
    op: Callable, inputs: dict[str, Tensor], cu_seqlens: Tensor, *, use: str = "y and state", **options
) -> dict[str, Tensor]:
    """Outputs of a scan, and the gradient of every input for a fixed random gradient of the outputs.

    Args:
        op: a function that returns y and the final state, or only y.
        inputs: tensors by name.
        cu_seqlens: borders.
        use: which of the two the loss depends on: ``y``, ``state`` or both.
        options: more arguments of ``op``.
    """
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in inputs.items()}
    result = call(op, leaves, cu_seqlens, **options)
    y, state = result if isinstance(result, tuple) else (result, None)
    loss = 0.0
    found = {"y": y.detach()}
    if "y" in use.split():
        loss = loss + (y * randn(*y.shape, seed=1).to(y.dtype)).sum()
    if state is not None:
        found["state"] = state.detach()
        if "state" in use:
            loss = loss + (state * randn(*state.shape, seed=2).to(y.dtype)).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return found | {f"grad {name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}


def relative_error(actual: Tensor, expected: Tensor, floor: float = 0.0) -> float:
    """Largest error over the largest expected value, which counts as ``floor`` at least."""
    assert actual.shape == expected.shape
    assert torch.isfinite(actual).all()
    error = (actual.double() - expected.double()).abs().max().item()
    scale = max(expected.abs().max().item(), floor)
    return error / scale if scale else error


def assert_near(
    actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float, ill_conditioned: float | None = None
) -> None:
    """Compare outputs and gradients by name.

    Args:
        actual: what was computed.
        expected: what it should be.
        tolerance: on the relative error.
        ill_conditioned: another one, for the gradients of dt and A: sums of terms that nearly cancel.
    """
    assert actual.keys() == expected.keys()
    errors = {}
    for name, value in actual.items():
        cancels = name in ("grad dt", "grad A")
        error = relative_error(value, expected[name], floor=0.1 if cancels else 1e-3)
        if error > (tolerance if ill_conditioned is None or not cancels else ill_conditioned):
            errors[name] = error
    assert not errors


def perturbed(inputs: dict[str, Tensor], tokens: slice, sequence: int, seed: int = 3) -> dict[str, Tensor]:
    """The inputs with every value of one sequence replaced, and nothing else."""
    changed = {}
    for name, tensor in inputs.items():
        changed[name] = tensor = tensor.clone()
        if name in ("x", "B", "C"):
            tensor[tokens] = randn(*tensor[tokens].shape, seed=seed).to(tensor.dtype)
        elif name == "dt":
            tensor[tokens] = F.softplus(randn(*tensor[tokens].shape, seed=seed)).to(tensor.dtype)
        elif name == "initial_state":
            tensor[sequence] = randn(*tensor[sequence].shape, seed=seed).to(tensor.dtype)
    return changed


def of_other_sequences(found: dict[str, Tensor], tokens: slice, sequence: int) -> dict[str, Tensor]:
    """What belongs to the other sequences in a result of :func:`evaluate`. A, D and their gradients belong to all."""
    others = {}
    for name, value in found.items():
        if name in ("state", "grad initial_state"):
            others[name] = torch.cat([value[:sequence], value[sequence + 1 :]])
        elif name not in ("grad A", "grad D"):
            others[name] = torch.cat([value[: tokens.start], value[tokens.stop :]])
    return others


def without(found: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    """A result without some of its entries."""
    return {name: value for name, value in found.items() if name not in names}


def assert_same_bits(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal names and values, to the last bit."""
    assert actual.keys() == expected.keys()
    assert not [name for name, value in actual.items() if not torch.equal(value, expected[name])]
