"""Mixed precision: which types are half precision, and what autocast does."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)

P = ParamSpec("P")
T = TypeVar("T")


def autocast_type(tensor: Tensor) -> torch.dtype | None:
    """The type in which autocast multiplies matrices on the tensor's device; None where it is off."""
    device = tensor.device.type
    if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def without_autocast(backward: Callable[P, T]) -> Callable[P, T]:
    """Decorator of the ``backward`` of an autograd function: it computes in the type of its tensors under autocast."""

    @wraps(backward)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> T:
        device = next(each.device for each in arguments if isinstance(each, Tensor))
        with torch.autocast(device.type, enabled=False):
            return backward(*arguments, **options)

    return wrapped


def without_half(value: T) -> T:
    """A tensor of half precision in float32; anything else as it is."""
    if isinstance(value, Tensor) and value.dtype in HALF:
        return value.float()  # type: ignore[return-value]  # a Tensor, as T is
    return value
