"""The form of a model's state: a tensor, or a list or tuple of states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor


def leaves(state: Any) -> Iterator[Tensor]:
    """The tensors of a state, which is a tensor, or a list or tuple of states."""
    if isinstance(state, Tensor):
        yield state
        return
    for each in state:
        yield from leaves(each)


def like(state: Any, leaves: Iterator[Tensor]) -> Any:
    """A state of the same form with other tensors."""
    if isinstance(state, Tensor):
        return next(leaves)
    return _of_kind(state, (like(each, leaves) for each in state))


def _of_kind(state: Any, parts: Iterable[Any]) -> Any:
    return type(state)(*parts) if hasattr(state, "_fields") else type(state)(parts)
