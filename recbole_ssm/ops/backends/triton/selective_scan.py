"""Mamba's scan over a packed stream on a GPU: Triton kernels that start anew at each border.

A program has a sequence and a block of channels, whose states stay in registers while it walks along the sequence. It
takes some tokens at a time, so that it waits for memory once for all of them. Nothing is kept for the backward pass but
the inputs: that pass walks forward again to note the state before each such run of tokens, and then back, one run after
another, with the states of a run in registers. Each program adds up gradients over its sequences and channels, and
PyTorch the programs, so that results do not depend on the order in which programs end. Sizes of rows are constants of
the compiled kernels: else the addresses of a run's tokens would take more registers than its states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recbole_ssm.ops.backends.layout import borders, contiguous, rows_contiguous

_TOKENS = 8
"""Of a run."""

_STATES = 256
"""Of all channels of a warp: 8 in each thread, of 4 to 16 channels."""

_REGISTERS = 168
"""Of a thread in the backward pass, at most: more would leave a GPU with too few warps, fewer with too little room."""

_PROGRAMS = 512
"""Over sequences, at most, in the backward pass."""


@triton.jit
def _at(start, end, i, REVERSE: tl.constexpr):  # type: ignore[no-untyped-def]  # in Triton's language
    """The token that a walk meets at step i, and whether there is one."""
    return (end - 1 - i if REVERSE else start + i), i < end - start


@triton.jit
def _load(x, row, index, here):  # type: ignore[no-untyped-def]  # likewise
    return tl.load(x + row + index, here, 0.0).to(tl.float32)


@triton.jit
def _step(h, u, dt, a, b):  # type: ignore[no-untyped-def]  # likewise
    return tl.exp(dt[None, :] * a) * h + (dt * u)[None, :] * b[:, None]


@triton.jit
def _forward(  # type: ignore[no-untyped-def]  # likewise
    u, u_row: tl.constexpr, dt, dt_row: tl.constexpr, A, B, B_row: tl.constexpr, C, C_row: tl.constexpr, D,
    cu_seqlens, initial, y, final, kept, E: tl.constexpr, N: tl.constexpr,
    REVERSE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """``y`` and the ``final`` states, or, where ``kept`` is given, only the state before each run but the first."""
    sequence = tl.program_id(0).to(tl.int64)
    e, n = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_N)
    is_e, is_n, state = e < E, n < N, e[None, :] * N + n[:, None]
    start, end = tl.load(cu_seqlens + sequence).to(tl.int64), tl.load(cu_seqlens + sequence + 1).to(tl.int64)
    is_state = is_n[:, None] & is_e[None, :]
    a, h = _load(A, 0, state, is_state), tl.zeros((BLOCK_N, BLOCK_E), tl.float32)
    if initial is not None:
        h = _load(initial, sequence * E * N, state, is_state)
    stop = end - start if kept is None else end - start - BLOCK_T
    for done in range(0, stop, BLOCK_T):
        run = ()
        for i in tl.static_range(BLOCK_T):
            t, here = _at(start, end, done + i, REVERSE)
            u_t, dt_t = _load(u, t * u_row, e, here & is_e), _load(dt, t * dt_row, e, here & is_e)
            h = _step(h, u_t, dt_t, a, _load(B, t * B_row, n, here & is_n))
            if kept is None:
                y_t = tl.sum(h * _load(C, t * C_row, n, here & is_n)[:, None], 0)
                if D is not None:
                    y_t += _load(D, 0, e, is_e) * u_t
                run += (y_t,)  # type: ignore[assignment]  # it grows
        if kept is None:
            for i in tl.static_range(BLOCK_T):
                t, here = _at(start, end, done + i, REVERSE)
                tl.store(y + t * E + e, run[i], here & is_e)
        else:
            tl.store(kept + (start + done + BLOCK_T) // BLOCK_T * E * N + state, h, is_state)
    if final is not None:
        tl.store(final + sequence * E * N + state, h, is_state)


@triton.jit
def _note(  # type: ignore[no-untyped-def]  # likewise
    u, u_row: tl.constexpr, dt, dt_row: tl.constexpr, B, B_row: tl.constexpr, dy, dy_row: tl.constexpr,
    h, a, start, end, done, e, n, is_e, is_n,
    REVERSE: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """The states around each token of a run, which are one more than its tokens, and what goes into each of these."""
    states, inputs = (h,), ()
    for i in tl.static_range(BLOCK_T):
        t, here = _at(start, end, done + i, REVERSE)
        u_t, dt_t = _load(u, t * u_row, e, here & is_e), _load(dt, t * dt_row, e, here & is_e)
        inputs += ((u_t, dt_t, _load(dy, t * dy_row, e, here & is_e)),)  # type: ignore[assignment]  # it grows
        h = _step(h, u_t, dt_t, a, _load(B, t * B_row, n, here & is_n))
        states += (h,)  # type: ignore[assignment]
    return states, inputs


@triton.jit(do_not_specialize=["T", "S", "programs"])
def _backward(  # type: ignore[no-untyped-def]  # likewise
    u, u_row: tl.constexpr, dt, dt_row: tl.constexpr, A, B, B_row: tl.constexpr, C, C_row: tl.constexpr, D,
    cu_seqlens, initial, kept, dy, dy_row: tl.constexpr, d_final,
    du, d_dt, dA, dB, dC, dD, d_initial, T, S, E: tl.constexpr, N: tl.constexpr, programs,
    REVERSE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    program, block = tl.program_id(0), tl.program_id(1)
    e, n = block * BLOCK_E + tl.arange(0, BLOCK_E), tl.arange(0, BLOCK_N)
    is_e, is_n, state = e < E, n < N, e[None, :] * N + n[:, None]
    is_state = is_n[:, None] & is_e[None, :]
    a, da = _load(A, 0, state, is_state), tl.zeros((BLOCK_N, BLOCK_E), tl.float32)
    skip, d_skip = tl.zeros((BLOCK_E,), tl.float32), tl.zeros((BLOCK_E,), tl.float32)
    if D is not None:
        skip = _load(D, 0, e, is_e)
    dB += tl.cast(block, tl.int64) * T * N
    dC += tl.cast(block, tl.int64) * T * N
    for s in range(program, S, programs):
        start, end = tl.load(cu_seqlens + s).to(tl.int64), tl.load(cu_seqlens + s + 1).to(tl.int64)
        whole = tl.cast(s, tl.int64) * E * N
        dh = tl.zeros((BLOCK_N, BLOCK_E), tl.float32)
        if d_final is not None:
            dh = _load(d_final, whole, state, is_state)
        runs = tl.cdiv(end - start, BLOCK_T)
        for k in range(0, runs):
            done = (runs - 1 - k) * BLOCK_T
            h = _load(kept, (start + done) // BLOCK_T * E * N, state, is_state & (done > 0))
            if initial is not None:
                h += _load(initial, whole, state, is_state & (done == 0))
            states, inputs = _note(
                u, u_row, dt, dt_row, B, B_row, dy, dy_row, h, a, start, end, done, e, n, is_e, is_n, REVERSE, BLOCK_T
            )
            for i in tl.static_range(BLOCK_T - 1, -1, -1):
                t, here = _at(start, end, done + i, REVERSE)
                u_t, dt_t, dy_t = inputs[i]
                b, c = _load(B, t * B_row, n, here & is_n), _load(C, t * C_row, n, here & is_n)
                dh += dy_t[None, :] * c[:, None]
                by_input = tl.sum(dh * b[:, None], 0)
                tl.store(dB + t * N + n, tl.sum(dh * (dt_t * u_t)[None, :], 1), here & is_n)
                tl.store(dC + t * N + n, tl.sum(states[i + 1] * dy_t[None, :], 1), here & is_n)
                dh *= tl.exp(dt_t[None, :] * a)
                d_log_decay = dh * states[i]
                da += d_log_decay * dt_t[None, :]
                d_skip += dy_t * u_t
                tl.store(du + t * E + e, by_input * dt_t + skip * dy_t, here & is_e)
                tl.store(d_dt + t * E + e, by_input * u_t + tl.sum(d_log_decay * a, 0), here & is_e)
        if d_initial is not None:
            tl.store(d_initial + whole + state, dh, is_state)
    tl.store(dA + tl.cast(program, tl.int64) * E * N + state, da, is_state)
    if D is not None:
        tl.store(dD + program * E + e, d_skip, is_e)


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
    """The op ``selective_scan``; computed in float32 whatever the inputs are, y in the type of u."""
    per_token = [rows_contiguous(tensor) for tensor in (u, dt, B, C)]
    others = [contiguous(tensor) for tensor in (A, D, initial_state)]
    y, final = _Scan.apply(*per_token, *others, borders(cu_seqlens), reverse, return_final_state)
    return (y, final) if return_final_state else y


class _Scan(torch.autograd.Function):
    """Inputs to y and the final states (S, E, N) in float32, or None where they are not asked for."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor | None]:
        *tensors, ctx.reverse, return_final_state = arguments
        u, A, cu_seqlens = tensors[0], tensors[4], tensors[7]
        y, final = u.new_empty(u.shape), None
        if return_final_state:
            final = u.new_empty(len(cu_seqlens) - 1, *A.shape, dtype=torch.float32)
        _walk_forward(tensors, ctx.reverse, y, final, None)
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        u, dt, B, C, A, D, initial, cu_seqlens = tensors = ctx.saved_tensors
        (T, E), N, S = u.shape, B.shape[1], len(cu_seqlens) - 1
        dy = torch.zeros_like(u) if dy is None else rows_contiguous(dy)
        kept = u.new_empty(triton.cdiv(T, _TOKENS), E, N, dtype=torch.float32)
        _walk_forward(tensors, ctx.reverse, None, None, kept)
        block = _block(N)
        programs, blocks = min(S, _PROGRAMS), triton.cdiv(E, block["BLOCK_E"])
        du, d_dt = u.new_empty(u.shape), dt.new_empty(dt.shape)
        dA, dB, dC = (
            u.new_empty(shape, dtype=torch.float32) for shape in ((programs, E, N), (blocks, T, N), (blocks, T, N))
        )
        dD = None if D is None else u.new_empty(programs, E, dtype=torch.float32)
        d_initial = None if initial is None else torch.empty_like(initial)
        _backward[(programs, blocks)](
            *_with_rows(tensors), kept, dy, dy.stride(0), contiguous(d_final),
            du, d_dt, dA, dB, dC, dD, d_initial, T, S, E, N, programs, ctx.reverse, **block, maxnreg=_REGISTERS,
        )  # fmt: skip
        sums = [None if parts is None else parts.sum(0) for parts in (dB, dC, dA, dD)]
        others = [
            part if part is None else part.to(tensor.dtype) for part, tensor in zip(sums, (B, C, A, D), strict=True)
        ]
        return du, d_dt, *others, d_initial, None, None, None


def _block(N: int) -> dict[str, int]:
    """Tokens, channels and states of a channel that a program works on at a time, and its warps."""
    states = triton.next_power_of_2(N)
    channels = min(max(_STATES // states, 4), 16)
    warps = max(channels * states // _STATES, 1)
    return {"BLOCK_T": _TOKENS, "BLOCK_E": channels, "BLOCK_N": states, "num_warps": warps}


def _with_rows(tensors: Sequence[Tensor | None]) -> list[Any]:
    """The tensors in the order of the kernels' arguments, those of tokens each with the distance of its rows."""
    u, dt, B, C, A, D, initial, cu_seqlens = tensors
    assert u is not None and dt is not None and B is not None and C is not None
    return [u, u.stride(0), dt, dt.stride(0), A, B, B.stride(0), C, C.stride(0), D, cu_seqlens, initial]


def _walk_forward(
    tensors: Sequence[Tensor | None], reverse: bool, y: Tensor | None, final: Tensor | None, kept: Tensor | None
) -> None:
    """Write y and the final states; or what is kept."""
    arguments = _with_rows(tensors)
    (E, N), S, block = arguments[4].shape, len(arguments[10]) - 1, _block(arguments[4].shape[1])
    grid = S, triton.cdiv(E, block["BLOCK_E"])
    _forward[grid](*arguments, y, final, kept, E, N, reverse, **block)
