"""The feed-forward network with its residual, dropouts and LayerNorm in C."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.native.dropout import least_number
from recbole_ssm.ops.backends.native.loading import call, pointers, threads_for_rows

_WIDTHS = 16
"""Widths must be multiples of this."""


def fits(x: Tensor, W1: Tensor, *_: Tensor, dropout: float, **options: Any) -> bool:
    """Whether the library takes these widths and this dropout."""
    return dropout < 1 and all(width % _WIDTHS == 0 for width in W1.shape)


def feed_forward(
    x: Tensor,
    W1: Tensor,
    b1: Tensor,
    W2: Tensor,
    b2: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float,
    dropout: float,
    dropout_after_norm: bool,
    drop: Callable[[Tensor, float], Tensor],
) -> Tensor:
    """The op ``feed_forward`` in float32, for dropout below 1, by itself and with seeds from torch's generator."""
    seeds = torch.randint(2**63 - 1, (2,)).tolist() if dropout else (0, 0)
    tensors = (tensor.contiguous() for tensor in (x, W1, b1, W2, b2, weight, bias))
    return _FeedForward.apply(*tensors, eps, dropout, seeds, dropout_after_norm)


class _Description(ctypes.Structure):
    """Mirrors ``FeedForward`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "width", "inner")),
        *((name, ctypes.c_void_p) for name in ("x", "W1", "W1T", "b1", "W2", "W2T", "b2", "weight", "bias")),
        ("seeds", ctypes.c_uint64 * 2),
        ("least", ctypes.c_uint32),
        *((name, ctypes.c_float) for name in ("scale", "eps")),
        *((name, ctypes.c_int32) for name in ("dropout_after_norm", "threads")),
    ]


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        x, W1, b1, W2, b2, weight, bias, eps, dropout, seeds, dropout_after_norm = arguments
        (R, d), E = x.shape, len(W1)
        data = x, W1, W1.T.contiguous(), b1, W2, W2.T.contiguous(), b2, weight, bias
        numbers = (ctypes.c_uint64 * 2)(*seeds), least_number(dropout), 1 / (1 - dropout), eps
        ctx.description = _Description(R, d, E, *pointers(data), *numbers, dropout_after_norm, threads_for_rows(R))
        y, kept, normed, factor = x.new_empty(R, d), None, None, None
        if any(ctx.needs_input_grad):
            kept, normed, factor = x.new_empty(R, E), x.new_empty(R, d), x.new_empty(R)
        call("feed_forward", ctx.description, y, kept, normed, factor)
        ctx.save_for_backward(*data, kept, normed, factor)  # which also keeps alive what the description points to
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, W1, _, b1, W2, _, b2, weight, bias, *kept = ctx.saved_tensors
        dx, threads = torch.empty_like(x), ctx.description.threads
        gradients = [tensor.new_zeros(threads, *tensor.shape) for tensor in (W1, b1, W2, b2, weight, bias)]
        call("feed_forward_backward", ctx.description, dy.contiguous(), *kept, dx, *gradients)
        return dx, *(gradient.sum(0) if threads > 1 else gradient[0] for gradient in gradients), None, None, None, None
