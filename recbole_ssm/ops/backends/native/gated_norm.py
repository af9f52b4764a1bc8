"""RMSNorm with a gate in C."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.layout import rows_contiguous
from recbole_ssm.ops.backends.native.loading import call, pointers, threads_for_rows


def gated_norm(y: Tensor, z: Tensor, weight: Tensor, *, eps: float, norm_before_gate: bool) -> Tensor:
    """``gated_rms_norm`` in float32."""
    return _GatedNorm.apply(rows_contiguous(y), rows_contiguous(z), weight.contiguous(), eps, norm_before_gate)


class _Description(ctypes.Structure):
    """Mirrors ``GatedNorm`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "width", "y_row", "z_row")),
        *((name, ctypes.c_void_p) for name in ("y", "z", "weight")),
        ("eps", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("norm_before_gate", "threads")),
    ]


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, weight: Tensor, eps: float, norm_before_gate: bool) -> Tensor:
        data, threads = pointers((y, z, weight)), threads_for_rows(len(y))
        ctx.description = _Description(*y.shape, y.stride(0), z.stride(0), *data, eps, norm_before_gate, threads)
        ctx.save_for_backward(y, z, weight)
        out = y.new_empty(y.shape)
        call("gated_norm", ctx.description, out)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        y, _, weight = ctx.saved_tensors  # which also keeps alive what the description points to
        dy, dz = y.new_empty(2, *y.shape)
        d_weight = weight.new_zeros(ctx.description.threads, len(weight))
        call("gated_norm_backward", ctx.description, d_out.contiguous(), dy, dz, d_weight)
        return dy, dz, d_weight.sum(0), None, None
