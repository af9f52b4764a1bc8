"""Short depthwise convolutions over a packed stream on a GPU.

A program has a block of tokens and a block of channels. The backward pass computes what goes into SiLU again; the
gradient of x is the same convolution with mirrored taps. Each program of the gradient of the taps adds up some blocks
of tokens, and PyTorch the programs, so that results do not depend on the order in which programs end.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recbole_ssm.ops.backends.layout import rows_contiguous
from recbole_ssm.ops.packing import sequence_index

MOST_TAPS = 16

_TOKENS, _CHANNELS = 32, 64
"""Of a block."""

_PROGRAMS = 512
"""Over tokens, at most, that add up the gradient of the taps."""


def fits(x: Tensor, weight: Tensor, *_: Tensor | None, ahead: int, activation: str | None) -> bool:
    """Whether there are few enough taps for the loops over them to be unrolled."""
    return weight.shape[1] <= MOST_TAPS


@triton.jit
def _met(x, x_row, sequence, t, own, c, T, C, SHIFT: tl.constexpr):  # type: ignore[no-untyped-def]  # Triton's language
    """What tokens meet ``SHIFT`` tokens after them; zero beyond the border."""
    met = t + SHIFT
    inside = (met >= 0) & (met < T)
    inside &= tl.load(sequence + met, inside, -1) == own
    return tl.load(x + met[:, None] * x_row + c[None, :], inside[:, None] & (c < C)[None, :], 0.0).to(tl.float32)


@triton.jit
def _sum_of_taps(  # type: ignore[no-untyped-def]  # likewise
    x, x_row, weight, bias, sequence, t, own, c, T, C,
    AHEAD: tl.constexpr, WIDTH: tl.constexpr, BIAS: tl.constexpr, MIRRORED: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    total = tl.zeros((BLOCK_T, BLOCK_C), tl.float32)
    if BIAS:
        total += tl.load(bias + c, c < C, 0.0).to(tl.float32)[None, :]
    for k in tl.static_range(WIDTH):
        tap = WIDTH - 1 - k if MIRRORED else k
        w = tl.load(weight + c * WIDTH + tap, c < C, 0.0).to(tl.float32)
        total += w[None, :] * _met(x, x_row, sequence, t, own, c, T, C, k - WIDTH + 1 + AHEAD)
    return total


@triton.jit(do_not_specialize=["T"])
def _convolve(  # type: ignore[no-untyped-def]  # likewise
    x, x_row, weight, bias, sequence, y, T, C,
    AHEAD: tl.constexpr, WIDTH: tl.constexpr, BIAS: tl.constexpr, MIRRORED: tl.constexpr, SILU: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    own = tl.load(sequence + t, t < T, -2)
    total = _sum_of_taps(
        x, x_row, weight, bias, sequence, t, own, c, T, C, AHEAD, WIDTH, BIAS, MIRRORED, BLOCK_T, BLOCK_C
    )
    if SILU:
        total *= tl.sigmoid(total)
    tl.store(y + t[:, None] * C + c[None, :], total, (t < T)[:, None] & (c < C)[None, :])


@triton.jit(do_not_specialize=["T", "blocks", "programs"])
def _gradient(  # type: ignore[no-untyped-def]  # likewise
    x, x_row, weight, bias, sequence, dy, dy_row, d_total, sums, T, C, blocks, programs,
    AHEAD: tl.constexpr, WIDTH: tl.constexpr, BIAS: tl.constexpr, SILU: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_W: tl.constexpr,
):  # fmt: skip
    """``d_total`` is the gradient of what goes into SiLU; ``sums`` are those of the taps, and of the bias behind."""
    first = tl.program_id(0)
    c, k_all = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_W)
    added = tl.zeros((BLOCK_W, BLOCK_C), tl.float32)
    for block in range(first, blocks, programs):
        t = tl.cast(block, tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
        here = (t < T)[:, None] & (c < C)[None, :]
        own = tl.load(sequence + t, t < T, -2)
        d = tl.load(dy + t[:, None] * dy_row + c[None, :], here, 0.0).to(tl.float32)
        if SILU:
            total = _sum_of_taps(
                x, x_row, weight, bias, sequence, t, own, c, T, C, AHEAD, WIDTH, BIAS, False, BLOCK_T, BLOCK_C
            )
            share = tl.sigmoid(total)
            d *= share * (1 + total * (1 - share))
            tl.store(d_total + t[:, None] * C + c[None, :], d, here)
        for k in tl.static_range(WIDTH):
            by_tap = tl.sum(d * _met(x, x_row, sequence, t, own, c, T, C, k - WIDTH + 1 + AHEAD), 0)
            added += tl.where((k_all == k)[:, None], by_tap[None, :], 0.0)
        added += tl.where((k_all == WIDTH)[:, None], tl.sum(d, 0)[None, :], 0.0)
    row = tl.cast(first, tl.int64) * (WIDTH + 1) + k_all
    tl.store(sums + row[:, None] * C + c[None, :], added, (k_all <= WIDTH)[:, None] & (c < C)[None, :])


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, ahead: int, activation: str | None
) -> Tensor:
    """``depthwise_conv1d`` of at most MOST_TAPS taps; sums in float32, y in the type of x."""
    sequence = sequence_index(cu_seqlens, len(x))
    bias = None if bias is None else bias.contiguous()
    return _Conv1d.apply(rows_contiguous(x), weight.contiguous(), bias, sequence, ahead, activation == "silu")


class _Conv1d(torch.autograd.Function):
    """x (T, C), weight (C, W), bias (C,) or None, the sequence of each token (T,) to (T, C)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sequence: Tensor, ahead: int, silu: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias, sequence)
        ctx.ahead, ctx.silu = ahead, silu
        y = x.new_empty(x.shape)
        _run(x, weight, bias, sequence, y, ahead, mirrored=False, silu=silu)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, sequence = ctx.saved_tensors
        dy, (T, C), W = rows_contiguous(dy), x.shape, weight.shape[1]
        blocks = triton.cdiv(T, _TOKENS)
        programs = min(blocks, _PROGRAMS)
        sums = x.new_empty(programs, W + 1, C, dtype=torch.float32)
        d_total = x.new_empty(T, C, dtype=torch.float32) if ctx.silu else dy
        _gradient[(programs, triton.cdiv(C, _CHANNELS))](
            x, x.stride(0), weight, bias, sequence, dy, dy.stride(0), d_total, sums, T, C, blocks, programs,
            ctx.ahead, W, bias is not None, ctx.silu, _TOKENS, _CHANNELS, triton.next_power_of_2(W + 1),
        )  # fmt: skip
        dx = x.new_empty(T, C)
        _run(d_total, weight, None, sequence, dx, W - 1 - ctx.ahead, mirrored=True, silu=False)
        added = sums.sum(0)
        d_bias = None if bias is None else added[W].to(bias.dtype)
        return dx, added[:W].T.to(weight.dtype), d_bias, None, None, None


def _run(
    x: Tensor, weight: Tensor, bias: Tensor | None, sequence: Tensor, y: Tensor, ahead: int, *, mirrored: bool,
    silu: bool,
) -> None:  # fmt: skip
    (T, C), W = x.shape, weight.shape[1]
    _convolve[(triton.cdiv(T, _TOKENS), triton.cdiv(C, _CHANNELS))](
        x, x.stride(0), weight, bias, sequence, y, T, C,
        ahead, W, bias is not None, mirrored, silu, _TOKENS, _CHANNELS,
    )  # fmt: skip
