"""Causal attention over a packed stream on a GPU, without the matrix of weights (FlashAttention, arXiv 2205.14135).

A program has a block of tokens and one head. A block may hold several sequences, and each token sees those of its own
that are not after it: so the keys of a block lie between the start of its first token's sequence and its end, and the
queries of a block between its start and the end of its last token's sequence. No longest length has to be known.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recbole_ssm.ops.packing import ends_of, starts_of
from recbole_ssm.ops.precision import HALF

_WIDEST = 128
"""Numbers of a head."""


@triton.jit
def _read(tensor, t, head, T, H, P, BLOCK_P: tl.constexpr):  # type: ignore[no-untyped-def]  # in Triton's language
    """Rows (t, P) of (T, H, P), and 0 beyond the last token."""
    p = tl.arange(0, BLOCK_P)
    place = (t[:, None].to(tl.int64) * H + head) * P + p[None, :]
    return tl.load(tensor + place, (t[:, None] < T) & (p[None, :] < P), 0.0)


@triton.jit
def _write(tensor, values, t, head, T, H, P, BLOCK_P: tl.constexpr):  # type: ignore[no-untyped-def]  # likewise
    p = tl.arange(0, BLOCK_P)
    place = (t[:, None].to(tl.int64) * H + head) * P + p[None, :]
    tl.store(tensor + place, values, (t[:, None] < T) & (p[None, :] < P))


@triton.jit
def _scores(q, k, i, j, start, scale):  # type: ignore[no-untyped-def]  # likewise
    """Of queries i for keys j, minus infinity where the key is of another sequence or later."""
    visible = (j[None, :] >= start[:, None]) & (j[None, :] <= i[:, None])
    return tl.where(visible, scale * tl.dot(q, tl.trans(k), input_precision="ieee"), float("-inf"))


@triton.jit(do_not_specialize=["T"])
def _forward(  # type: ignore[no-untyped-def]  # likewise
    q, k, v, starts, y, log_sums, scale, T, H, P, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr
):  # fmt: skip
    first, head = tl.program_id(0) * BLOCK, tl.program_id(1)
    i = first + tl.arange(0, BLOCK)
    start = tl.load(starts + i, i < T, T)
    q_i = _read(q, i, head, T, H, P, BLOCK_P)
    largest, z = tl.full((BLOCK,), -1e30, tl.float32), tl.zeros((BLOCK,), tl.float32)
    y_i = tl.zeros((BLOCK, BLOCK_P), tl.float32)
    for at in range(tl.load(starts + first), tl.minimum(first + BLOCK, T), BLOCK):
        j = at + tl.arange(0, BLOCK)
        score = _scores(q_i, _read(k, j, head, T, H, P, BLOCK_P), i, j, start, scale)
        larger = tl.maximum(largest, tl.max(score, 1))
        u, factor = tl.exp(score - larger[:, None]), tl.exp(largest - larger)
        v_j = _read(v, j, head, T, H, P, BLOCK_P)
        y_i = y_i * factor[:, None] + tl.dot(u.to(v_j.dtype), v_j, input_precision="ieee")
        z, largest = z * factor + tl.sum(u, 1), larger
    _write(y, y_i / z[:, None], i, head, T, H, P, BLOCK_P)
    tl.store(log_sums + i * H + head, largest + tl.log(z), i < T)


@triton.jit
def _d_scores(q, k, v, dy, i, j, start, log_sum, dy_y, scale):  # type: ignore[no-untyped-def]  # likewise
    """The weights, and the gradient of ``q k``."""
    weight = tl.exp(_scores(q, k, i, j, start, scale) - log_sum[:, None])
    return weight, weight * (tl.dot(dy, tl.trans(v), input_precision="ieee") - dy_y[:, None]) * scale


@triton.jit(do_not_specialize=["T"])
def _backward_of_queries(  # type: ignore[no-untyped-def]  # likewise
    q, k, v, starts, log_sums, dy, dy_ys, dq, scale, T, H, P, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr
):  # fmt: skip
    first, head = tl.program_id(0) * BLOCK, tl.program_id(1)
    i = first + tl.arange(0, BLOCK)
    start = tl.load(starts + i, i < T, T)
    q_i, dy_i = _read(q, i, head, T, H, P, BLOCK_P), _read(dy, i, head, T, H, P, BLOCK_P)
    log_sum, dy_y = tl.load(log_sums + i * H + head, i < T, 0.0), tl.load(dy_ys + i * H + head, i < T, 0.0)
    dq_i = tl.zeros((BLOCK, BLOCK_P), tl.float32)
    for at in range(tl.load(starts + first), tl.minimum(first + BLOCK, T), BLOCK):
        j = at + tl.arange(0, BLOCK)
        k_j, v_j = _read(k, j, head, T, H, P, BLOCK_P), _read(v, j, head, T, H, P, BLOCK_P)
        _, d_score = _d_scores(q_i, k_j, v_j, dy_i, i, j, start, log_sum, dy_y, scale)
        dq_i += tl.dot(d_score.to(k_j.dtype), k_j, input_precision="ieee")
    _write(dq, dq_i, i, head, T, H, P, BLOCK_P)


@triton.jit(do_not_specialize=["T"])
def _backward_of_keys(  # type: ignore[no-untyped-def]  # likewise
    q, k, v, starts, ends, log_sums, dy, dy_ys, dk, dv, scale, T, H, P, BLOCK: tl.constexpr, BLOCK_P: tl.constexpr
):  # fmt: skip
    first, head = tl.program_id(0) * BLOCK, tl.program_id(1)
    j = first + tl.arange(0, BLOCK)
    k_j, v_j = _read(k, j, head, T, H, P, BLOCK_P), _read(v, j, head, T, H, P, BLOCK_P)
    dk_j, dv_j = tl.zeros((BLOCK, BLOCK_P), tl.float32), tl.zeros((BLOCK, BLOCK_P), tl.float32)
    for at in range(first, tl.load(ends + tl.minimum(first + BLOCK, T) - 1), BLOCK):
        i = at + tl.arange(0, BLOCK)
        start = tl.load(starts + i, i < T, T)
        q_i, dy_i = _read(q, i, head, T, H, P, BLOCK_P), _read(dy, i, head, T, H, P, BLOCK_P)
        log_sum, dy_y = tl.load(log_sums + i * H + head, i < T, 0.0), tl.load(dy_ys + i * H + head, i < T, 0.0)
        weight, d_score = _d_scores(q_i, k_j, v_j, dy_i, i, j, start, log_sum, dy_y, scale)
        dv_j += tl.dot(tl.trans(weight.to(dy_i.dtype)), dy_i, input_precision="ieee")
        dk_j += tl.dot(tl.trans(d_score.to(q_i.dtype)), q_i, input_precision="ieee")
    _write(dk, dk_j, j, head, T, H, P, BLOCK_P)
    _write(dv, dv_j, j, head, T, H, P, BLOCK_P)


def fits(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> bool:
    """Heads of up to 128 numbers, all of one type."""
    return q.dtype == k.dtype == v.dtype and q.shape[-1] <= _WIDEST


def attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The op ``causal_attention``. Sums are in float32."""
    starts, ends = (of(cu_seqlens, len(q)).int() for of in (starts_of, ends_of))
    return _Attention.apply(q, k, v, starts, ends)


def _launch(kernel: Any, q: Tensor, *others: Tensor) -> None:
    """Run a kernel on all blocks of tokens and all heads."""
    T, H, P = q.shape
    block, width, warps = cut(q.dtype, P)
    if T:
        grid = triton.cdiv(T, block), H
        kernel[grid](q, *others, P**-0.5, T, H, P, block, width, num_warps=warps, num_stages=2)


def cut(dtype: torch.dtype, P: int) -> tuple[int, int, int]:
    """Tokens and columns of a block, such that few registers are spilled, and the warps of a program.

    A block of 64 tokens has 4 warps, which multiply 64 rows at once on an H100. Of 8 warps, both halves would compute
    the same scores.
    """
    width = max(triton.next_power_of_2(P), 16)
    block = 64 if dtype in HALF and width <= 64 else 32
    return block, width, 4 if block == 64 or width <= 32 else 8


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        q, k, v, starts, ends = (tensor.contiguous() for tensor in arguments)
        y, log_sums = torch.empty_like(q), q.new_empty(q.shape[:2], dtype=torch.float32)
        _launch(_forward, q, k, v, starts, y, log_sums)
        ctx.save_for_backward(q, k, v, starts, ends, y, log_sums)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, starts, ends, y, log_sums = ctx.saved_tensors
        dy = dy.contiguous()
        dy_y = (dy.float() * y.float()).sum(-1)
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        _launch(_backward_of_queries, q, k, v, starts, log_sums, dy, dy_y, dq)
        _launch(_backward_of_keys, q, k, v, starts, ends, log_sums, dy, dy_y, dk, dv)
        return dq, dk, dv, None, None
