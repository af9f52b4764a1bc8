"""Checks of values, and totals, for which the host does not wait for a GPU.

To read a number from a GPU the host waits until all that it has asked for is done, and then the GPU waits for the host.
So values there are checked there: a wrong one ends the process's use of the GPU, with the message, at that point of the
computation. The host learns of it when it next waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

_unread: ContextVar[bool] = ContextVar("unread", default=False)


@contextmanager
def unread_values() -> Iterator[None]:
    """Within this context no values of tensors are read or checked, so that a graph made here holds for all values."""
    token = _unread.set(True)
    try:
        yield
    finally:
        _unread.reset(token)


def are_unread() -> bool:
    """Whether this is within :func:`unread_values`."""
    return _unread.get()


def on_host(tensor: Tensor) -> bool:
    """Whether its values can be read without waiting for a GPU."""
    return tensor.device.type == "cpu" and not _unread.get()


def demand(holds: Tensor, message: str) -> None:
    """Let the device assert a condition.

    Args:
        holds: (), bool.
        message: what is wrong otherwise, in less than 256 characters.
    """
    if not _unread.get():
        torch._assert_async(holds, message[:255])


_totals: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def remember_total(lengths: Tensor, total: int) -> Tensor:
    """Note the sum of a tensor, for which a GPU would have to be asked; on a CPU it is at hand, and nothing is noted.

    Args:
        lengths: whole numbers; they must not change any more.
        total: their sum.

    Returns:
        The same tensor.
    """
    if not on_host(lengths):
        _totals[lengths] = total
    return lengths


def known_total(lengths: Tensor) -> int | None:
    """The sum of whole numbers if it was noted."""
    total: int | None = _totals.get(lengths)
    return total
