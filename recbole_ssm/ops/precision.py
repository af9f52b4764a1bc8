"""Mixed precision: recurrences keep their states, decays and sums in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from recbole_ssm.ops.backend import choose

HALF = (torch.float16, torch.bfloat16)


def autocast_type(tensor: Tensor) -> torch.dtype | None:
    """The type in which autocast multiplies matrices on the tensor's device; None where it is off."""
    device = tensor.device.type
    if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device)


def in_float32(name: str) -> Callable[[Callable], Callable]:
    """Decorator of the op ``name``: half precision goes to float32 and the output back to the first tensor's type.

    The field's GPU kernels do so within, and get half precision as it is. States stay in float32. Inside, autocast is
    off.
    """

    def decorate(op: Callable) -> Callable:
        @wraps(op)
        def wrapped(first: Tensor, *others, **options):
            tensors = [value for value in (first, *others, *options.values()) if isinstance(value, Tensor)]
            tensors = [tensor for tensor in tensors if tensor.is_floating_point()]
            has_half = any(tensor.dtype in HALF for tensor in tensors)
            if not has_half and autocast_type(first) is None:
                return op(first, *others, **options)
            with torch.autocast(first.device.type, enabled=False):
                if has_half and choose(name, *tensors) not in ("mamba_ssm", "triton"):
                    options = {key: without_half(value) for key, value in options.items()}
                    result = op(without_half(first), *map(without_half, others), **options)
                else:
                    result = op(first, *others, **options)
            if isinstance(result, tuple):
                return result[0].to(first.dtype), result[1]
            return result.to(first.dtype)

        return wrapped

    return decorate


def without_autocast(backward: Callable) -> Callable:
    """Decorator of the ``backward`` of a function that computes in the type of its tensors, whoever calls it where."""

    @wraps(backward)
    def wrapped(ctx, *gradients):
        device = next(gradient.device for gradient in gradients if gradient is not None)
        with torch.autocast(device.type, enabled=False):
            return backward(ctx, *gradients)

    return wrapped


def without_half(value):
    """A tensor of half precision in float32; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value
