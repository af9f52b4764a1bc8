"""Short depthwise convolutions in C."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from recbole_ssm.ops.native.loading import call, pointer, rows_contiguous, threads_for

MOST_TAPS = 16
"""As in library.c."""


def conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, ahead: int, silu: bool) -> Tensor:
    """``y[t] = bias + sum_k weight[k] x[t + k - W + 1 + ahead]`` within each sequence, and SiLU of it, in float32.

    Args:
        x: (T, C).
        weight: (W, C), at most MOST_TAPS.
        bias: (C,) or None.
        cu_seqlens: (S + 1,).
        ahead: how many tokens after its own the last tap meets.
        silu: whether SiLU is applied.

    Returns:
        (T, C).
    """
    bias = None if bias is None else bias.contiguous()
    cu_seqlens = cu_seqlens.to(torch.int32).contiguous()
    return _Conv1d.apply(rows_contiguous(x), weight.contiguous(), bias, cu_seqlens, ahead, silu)


class _Description(ctypes.Structure):
    """Mirrors ``Convolution`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("sequences", "channels", "taps", "x_row", "dy_row")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens", "x", "weight", "bias")),
        *((name, ctypes.c_int32) for name in ("ahead", "silu", "threads")),
    ]


def _describe(x, weight, bias, cu_seqlens, ahead, silu, dy_row=0) -> _Description:
    (W, C), data = weight.shape, (pointer(t) for t in (cu_seqlens, x, weight, bias))
    return _Description(len(cu_seqlens) - 1, C, W, x.stride(0), dy_row, *data, ahead, silu, threads_for(C))


class _Conv1d(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, cu_seqlens, ahead, silu):
        y = x.new_empty(x.shape)
        call("conv1d", _describe(x, weight, bias, cu_seqlens, ahead, silu), y)
        ctx.save_for_backward(x, weight, bias, cu_seqlens)
        ctx.ahead, ctx.silu = ahead, silu
        return y

    @staticmethod
    def backward(ctx, dy):
        x, weight, bias, cu_seqlens = ctx.saved_tensors
        dy = rows_contiguous(dy)
        dx, d_weight = x.new_zeros(x.shape), torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        description = _describe(x, weight, bias, cu_seqlens, ctx.ahead, ctx.silu, dy.stride(0))
        call("conv1d_backward", description, dy, dx, d_weight, d_bias)
        return dx, d_weight, d_bias, None, None, None
