"""Dropout in C: its mask is computed again in the backward pass instead of kept."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.native.loading import loaded, pointer


def dropout(x: Tensor, p: float) -> Tensor:
    """``F.dropout(x, p)`` in float32, for ``0 <= p < 1``, with a seed from torch's generator."""
    return _Dropout.apply(x, p, int(torch.randint(2**63 - 1, ())))


def least_number(p: float) -> int:
    """What a random number below 2**32 must reach to be kept."""
    return min(round(p * 2**32), 2**32 - 1)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: int) -> Tensor:
        ctx.p, ctx.seed = p, seed
        x = x.contiguous()
        y = torch.empty_like(x)
        numbers = ctypes.c_uint64(seed), ctypes.c_uint32(least_number(p)), ctypes.c_float(1 / (1 - p))
        threads = ctypes.c_int64(max(1, min(torch.get_num_threads(), x.numel() >> 15)))
        loaded().recbole_ssm_dropout(
            ctypes.c_int64(x.numel()), ctypes.c_void_p(pointer(x)), *numbers, ctypes.c_void_p(pointer(y)), threads
        )
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return _Dropout.apply(dy, ctx.p, ctx.seed), None, None
