"""Random packed batches, and comparisons by name, for tests of ops, layers and models."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import strategies as st
from torch import Tensor

from recbole_ssm.ops.backends import choose
from recbole_ssm.ops.packing import cumulative_lengths
from recbole_ssm.testing.backends import relative_error

__all__ = [
    "alone",
    "assert_same_bits",
    "borders",
    "compiled",
    "randn",
    "randomise",
    "relative_error",
    "sequence_lengths",
    "slices",
    "without",
]


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
    return [slice(start, end) for start, end in pairwise(ends)]


def alone(length: int) -> Tensor:
    """``cu_seqlens`` of a single sequence."""
    return torch.tensor([0, length], dtype=torch.int32)


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64, always the same for a seed."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def randomise(module: torch.nn.Module, scale: float = 0.3, seed: int = 0) -> torch.nn.Module:
    """Move every parameter, so that none of them is 0, 1 or too small to matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return module


def compiled(dtype: torch.dtype) -> bool:
    """Whether the C library computes with this type in the test at hand."""
    return choose("ssd", torch.empty(0, dtype=dtype)) == "native"


def assert_same_bits(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal names and values, to the last bit."""
    assert actual.keys() == expected.keys()
    assert not [name for name, value in actual.items() if not torch.equal(value, expected[name])]


def without(found: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    """All entries but some."""
    return {name: value for name, value in found.items() if name not in names}
