"""Short depthwise convolutions in C."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.layout import borders, contiguous, rows_contiguous
from recbole_ssm.ops.backends.native.loading import call, pointers, threads_for

MOST_TAPS = 16
"""As in library.c."""


def fits(x: Tensor, weight: Tensor, *_: Tensor | None, ahead: int, activation: str | None) -> bool:
    """Whether the library takes so many taps."""
    return weight.shape[1] <= MOST_TAPS


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, ahead: int, activation: str | None
) -> Tensor:
    """``depthwise_conv1d`` of at most MOST_TAPS taps, in float32."""
    silu = activation == "silu"
    taps = weight.T.contiguous()
    return _Conv1d.apply(rows_contiguous(x), taps, contiguous(bias), borders(cu_seqlens), ahead, silu)


class _Description(ctypes.Structure):
    """Mirrors ``Convolution`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("sequences", "channels", "taps", "x_row", "dy_row")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens", "x", "weight", "bias")),
        *((name, ctypes.c_int32) for name in ("ahead", "silu", "threads")),
    ]


def _describe(tensors: tuple[Tensor | None, ...], ahead: int, silu: bool, dy_row: int = 0) -> _Description:
    x, weight, bias, cu_seqlens = tensors
    assert x is not None and weight is not None and cu_seqlens is not None
    W, C = weight.shape
    data = pointers((cu_seqlens, x, weight, bias))
    return _Description(len(cu_seqlens) - 1, C, W, x.stride(0), dy_row, *data, ahead, silu, threads_for(C))


class _Conv1d(torch.autograd.Function):
    """x (T, C), weight (W, C), bias (C,) or None to (T, C)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, ahead: int, silu: bool
    ) -> Tensor:
        y = x.new_empty(x.shape)
        call("conv1d", _describe((x, weight, bias, cu_seqlens), ahead, silu), y)
        ctx.save_for_backward(x, weight, bias, cu_seqlens)
        ctx.ahead, ctx.silu = ahead, silu
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, _ = ctx.saved_tensors
        dy = rows_contiguous(dy)
        dx, d_weight = x.new_zeros(x.shape), torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        call(
            "conv1d_backward", _describe(ctx.saved_tensors, ctx.ahead, ctx.silu, dy.stride(0)), dy, dx, d_weight, d_bias
        )
        return dx, d_weight, d_bias, None, None, None
