"""RMSNorm with a gate on a GPU: one pass over the rows, and one back.

Each program of the backward pass adds up the weight's gradient over its rows, and PyTorch adds up the programs, so that
results do not depend on the order in which programs end.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recbole_ssm.ops.backends.layout import rows_contiguous

MOST_CHANNELS = 4096

_ELEMENTS = 2048
"""Of a block of rows, at least one row."""

_PROGRAMS = 512
"""At most, in the backward pass."""


def fits(y: Tensor, z: Tensor, weight: Tensor, *, eps: float, norm_before_gate: bool) -> bool:
    """Whether a row fits the registers of a program."""
    return len(weight) <= MOST_CHANNELS


@triton.jit(do_not_specialize=["R"])
def _forward(  # type: ignore[no-untyped-def]  # in Triton's language, whose pointers have no types
    y, y_row, z, z_row, weight, out, eps, R, n, BEFORE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    row, column = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, BLOCK)
    here = (row < R)[:, None] & (column < n)[None, :]
    v = tl.load(y + row[:, None] * y_row + column[None, :], here, 0.0).to(tl.float32)
    gate = tl.load(z + row[:, None] * z_row + column[None, :], here, 0.0).to(tl.float32)
    w = tl.load(weight + column, column < n, 0.0).to(tl.float32)
    gate *= tl.sigmoid(gate)
    if not BEFORE:
        v *= gate
    v *= tl.rsqrt(tl.sum(v * v, 1) / n + eps)[:, None] * w[None, :]
    if BEFORE:
        v *= gate
    tl.store(out + row[:, None] * n + column[None, :], v, here)


@triton.jit(do_not_specialize=["R", "blocks", "programs"])
def _backward(  # type: ignore[no-untyped-def]  # likewise
    y, y_row, z, z_row, weight, d_out, d_row, dy, dz, sums, eps, R, n, blocks, programs,
    BEFORE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    first, column = tl.program_id(0), tl.arange(0, BLOCK)
    w = tl.load(weight + column, column < n, 0.0).to(tl.float32)
    dw = tl.zeros((BLOCK,), tl.float32)
    for block in range(first, blocks, programs):
        row = tl.cast(block, tl.int64) * ROWS + tl.arange(0, ROWS)
        here = (row < R)[:, None] & (column < n)[None, :]
        y_here = tl.load(y + row[:, None] * y_row + column[None, :], here, 0.0).to(tl.float32)
        z_here = tl.load(z + row[:, None] * z_row + column[None, :], here, 0.0).to(tl.float32)
        d = tl.load(d_out + row[:, None] * d_row + column[None, :], here, 0.0).to(tl.float32)
        share = tl.sigmoid(z_here)
        gate, slope = z_here * share, share * (1 + z_here * (1 - share))
        v = y_here if BEFORE else y_here * gate
        d_normed = d * gate if BEFORE else d
        factor = tl.rsqrt(tl.sum(v * v, 1) / n + eps)[:, None]
        normed = v * factor
        dw += tl.sum(d_normed * normed, 0)
        d_normed *= w[None, :]
        dv = factor * (d_normed - normed * (tl.sum(d_normed * normed, 1) / n)[:, None])
        at = row[:, None] * n + column[None, :]
        tl.store(dy + at, dv if BEFORE else dv * gate, here)
        tl.store(dz + at, (d * w[None, :] * normed if BEFORE else dv * y_here) * slope, here)
    tl.store(sums + tl.cast(first, tl.int64) * n + column, dw, column < n)


def gated_norm(y: Tensor, z: Tensor, weight: Tensor, *, eps: float, norm_before_gate: bool) -> Tensor:
    """``gated_rms_norm`` of at most MOST_CHANNELS channels; sums in float32, the result in the type of y."""
    return _GatedNorm.apply(rows_contiguous(y), rows_contiguous(z), weight.contiguous(), eps, norm_before_gate)


class _GatedNorm(torch.autograd.Function):
    """y and z (R, n), weight (n,) to (R, n)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, z: Tensor, weight: Tensor, eps: float, norm_before_gate: bool) -> Tensor:
        ctx.save_for_backward(y, z, weight)
        ctx.eps, ctx.norm_before_gate = eps, norm_before_gate
        (R, n), out = y.shape, y.new_empty(y.shape)
        rows, width = _block(n)
        _forward[(triton.cdiv(R, rows),)](
            y, y.stride(0), z, z.stride(0), weight, out, eps, R, n, norm_before_gate, rows, width
        )
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        y, z, weight = ctx.saved_tensors
        d_out, (R, n) = rows_contiguous(d_out), y.shape
        rows, width = _block(n)
        blocks = triton.cdiv(R, rows)
        programs = min(blocks, _PROGRAMS)
        dy, dz = y.new_empty(R, n), z.new_empty(R, n)
        sums = weight.new_empty(programs, n, dtype=torch.float32)
        _backward[(programs,)](
            y, y.stride(0), z, z.stride(0), weight, d_out, d_out.stride(0), dy, dz, sums, ctx.eps, R, n,
            blocks, programs, ctx.norm_before_gate, rows, width, num_warps=4 if width <= _ELEMENTS else 8,
        )  # fmt: skip
        return dy, dz, sums.sum(0).to(weight.dtype), None, None


def _block(n: int) -> tuple[int, int]:
    """Rows and columns of a block, both powers of two."""
    width = triton.next_power_of_2(n)
    return max(1, _ELEMENTS // width), width
