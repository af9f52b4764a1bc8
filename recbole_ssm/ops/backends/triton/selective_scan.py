"""Mamba's scan over a packed stream on a GPU: Triton kernels that start anew at each border.

A program has one sequence and a block of channels, whose states stay in registers while it walks along the sequence.
The forward pass keeps the state before every chunk; the backward pass walks each chunk forward again, noting its
states, and then back. Sums over channels and sequences are left to PyTorch, so that results do not depend on the order
in which programs end.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_CHUNK = 32
_BLOCK = 16


@triton.jit
def _forward(  # type: ignore[no-untyped-def]  # in Triton's language, whose pointers have no types
    u, dt, A, B, C, cu_seqlens, first_chunk, initial, y, final, kept,
    E, N, REVERSE: tl.constexpr, INITIAL: tl.constexpr, KEEP: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0).to(tl.int64)
    e, n = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_N)
    state, is_state = e[:, None] * N + n[None, :], (e < E)[:, None] & (n < N)[None, :]
    start, end = tl.load(cu_seqlens + sequence).to(tl.int64), tl.load(cu_seqlens + sequence + 1).to(tl.int64)
    chunk = tl.load(first_chunk + sequence)
    a = tl.load(A + state, is_state, 0.0)
    h = tl.zeros((BLOCK_E, BLOCK_N), tl.float32)
    if INITIAL:
        h = tl.load(initial + sequence * E * N + state, is_state, 0.0)
    for i in range(0, end - start):
        t = end - 1 - i if REVERSE else start + i
        if KEEP and i % CHUNK == 0:
            tl.store(kept + (chunk + i // CHUNK) * E * N + state, h, is_state)
        u_t = tl.load(u + t * E + e, e < E, 0.0)
        dt_t = tl.load(dt + t * E + e, e < E, 0.0)
        b = tl.load(B + t * N + n, n < N, 0.0)
        c = tl.load(C + t * N + n, n < N, 0.0)
        h = tl.exp(dt_t[:, None] * a) * h + (dt_t * u_t)[:, None] * b[None, :]
        tl.store(y + t * E + e, tl.sum(h * c[None, :], 1), e < E)
    tl.store(final + sequence * E * N + state, h, is_state)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]  # likewise
    u, dt, A, B, C, cu_seqlens, first_chunk, kept, dy, d_final, noted, du, d_dt, dA, dB, dC, d_initial,
    T, E, N, REVERSE: tl.constexpr, FINAL: tl.constexpr,
    CHUNK: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    sequence, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    e, n = block * BLOCK_E + tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_N)
    state, is_state = e[:, None] * N + n[None, :], (e < E)[:, None] & (n < N)[None, :]
    start, end = tl.load(cu_seqlens + sequence).to(tl.int64), tl.load(cu_seqlens + sequence + 1).to(tl.int64)
    first, chunks = tl.load(first_chunk + sequence), tl.cdiv(end - start, CHUNK)
    a = tl.load(A + state, is_state, 0.0)
    dh = tl.zeros((BLOCK_E, BLOCK_N), tl.float32)
    if FINAL:
        dh = tl.load(d_final + sequence * E * N + state, is_state, 0.0)
    da = tl.zeros((BLOCK_E, BLOCK_N), tl.float32)
    noted += sequence * CHUNK * E * N
    for k in range(0, chunks):
        at = (chunks - 1 - k) * CHUNK
        steps = tl.minimum(end - start - at, CHUNK)
        h = tl.load(kept + (first + chunks - 1 - k) * E * N + state, is_state, 0.0)
        for i in range(0, steps):
            t = end - 1 - at - i if REVERSE else start + at + i
            tl.store(noted + i * E * N + state, h, is_state)
            u_t = tl.load(u + t * E + e, e < E, 0.0)
            dt_t = tl.load(dt + t * E + e, e < E, 0.0)
            b = tl.load(B + t * N + n, n < N, 0.0)
            h = tl.exp(dt_t[:, None] * a) * h + (dt_t * u_t)[:, None] * b[None, :]
        tl.debug_barrier()
        for j in range(0, steps):
            i = steps - 1 - j
            t = end - 1 - at - i if REVERSE else start + at + i
            before = tl.load(noted + i * E * N + state, is_state, 0.0)
            u_t, dt_t = tl.load(u + t * E + e, e < E, 0.0), tl.load(dt + t * E + e, e < E, 0.0)
            dy_t = tl.load(dy + t * E + e, e < E, 0.0)
            b, c = tl.load(B + t * N + n, n < N, 0.0), tl.load(C + t * N + n, n < N, 0.0)
            decay = tl.exp(dt_t[:, None] * a)
            after = decay * before + (dt_t * u_t)[:, None] * b[None, :]
            dh += dy_t[:, None] * c[None, :]
            by_input = tl.sum(dh * b[None, :], 1)
            row = (block * T + t) * N + n
            tl.store(dB + row, tl.sum(dh * (dt_t * u_t)[:, None], 0), n < N)
            tl.store(dC + row, tl.sum(after * dy_t[:, None], 0), n < N)
            dh *= decay
            d_log_decay = dh * before
            da += d_log_decay * dt_t[:, None]
            tl.store(du + t * E + e, by_input * dt_t, e < E)
            tl.store(d_dt + t * E + e, by_input * u_t + tl.sum(d_log_decay * a, 1), e < E)
        tl.debug_barrier()
    tl.store(dA + sequence * E * N + state, da, is_state)
    tl.store(d_initial + sequence * E * N + state, dh, is_state)


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    *,
    D: Tensor | None,
    reverse: bool,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """The op ``selective_scan``; computed in float32 whatever the inputs are."""
    y, final = _Scan.apply(u, dt, A, B, C, initial_state, cu_seqlens, reverse)
    y = y if D is None else y + D * u
    return (y, final) if return_final_state else y


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        u, dt, A, B, C, initial_state, cu_seqlens, reverse = arguments
        inputs = [tensor.float().contiguous() for tensor in (u, dt, A, B, C)]
        initial = None if initial_state is None else initial_state.float().contiguous()
        cu_seqlens = cu_seqlens.to(torch.int32).contiguous()
        (T, E), N, S = u.shape, B.shape[1], len(cu_seqlens) - 1
        chunks = -(-cu_seqlens.diff().long() // _CHUNK)
        first_chunk = (chunks.cumsum(0) - chunks).contiguous()
        keep = any(ctx.needs_input_grad)
        y, final = inputs[0].new_empty(T, E), inputs[0].new_empty(S, E, N)
        kept = inputs[0].new_empty(int(chunks.sum()) if keep else 0, E, N)
        _forward[(S, triton.cdiv(E, _BLOCK))](
            *inputs, cu_seqlens, first_chunk, final if initial is None else initial, y, final, kept, E, N,
            reverse, initial is not None, keep, _CHUNK, _BLOCK, triton.next_power_of_2(N),
        )  # fmt: skip
        ctx.save_for_backward(*inputs, cu_seqlens, first_chunk, kept)
        ctx.reverse, ctx.types = reverse, [tensor.dtype for tensor in (u, dt, A, B, C)]
        ctx.initial_type = None if initial_state is None else initial_state.dtype
        ctx.set_materialize_grads(False)
        return y.to(u.dtype), final

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        u, dt, A, B, C, cu_seqlens, first_chunk, kept = ctx.saved_tensors
        (T, E), N, S = u.shape, B.shape[1], len(cu_seqlens) - 1
        blocks = triton.cdiv(E, _BLOCK)
        dy = torch.zeros_like(u) if dy is None else dy.float().contiguous()
        noted, dA, d_initial = u.new_empty(S, _CHUNK, E, N), u.new_empty(S, E, N), u.new_empty(S, E, N)
        du, d_dt, dB, dC = u.new_empty(T, E), u.new_empty(T, E), u.new_empty(blocks, T, N), u.new_empty(blocks, T, N)
        _backward[(S, blocks)](
            u, dt, A, B, C, cu_seqlens, first_chunk, kept, dy, d_initial if d_final is None else d_final.contiguous(),
            noted, du, d_dt, dA, dB, dC, d_initial, T, E, N,
            ctx.reverse, d_final is not None, _CHUNK, _BLOCK, triton.next_power_of_2(N),
        )  # fmt: skip
        summed = (du, d_dt, dA.sum(0), dB.sum(0), dC.sum(0))
        gradients = [gradient.to(kind) for gradient, kind in zip(summed, ctx.types, strict=True)]
        return *gradients, None if ctx.initial_type is None else d_initial.to(ctx.initial_type), None, None
