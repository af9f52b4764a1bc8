"""The scan of Mamba in C."""

from __future__ import annotations

import ctypes

import torch

from recbole_ssm.ops.native.loading import call, library, pointer, rows_contiguous, threads_for


def selective_scan(u, dt, A, B, C, cu_seqlens, D, initial_state, *, reverse: bool):
    """``selective_scan`` in float32, with its states the other way round.

    Args:
        u: (T, E).
        dt: (T, E).
        A: (N, E).
        B: (T, N).
        C: (T, N).
        cu_seqlens: (S + 1,).
        D: (E,) or None.
        initial_state: (S, N, E) or None.
        reverse: run each sequence from its end.

    Returns:
        y (T, E) and final states (S, N, E).
    """
    u, dt, B, C = (rows_contiguous(t) for t in (u, dt, B, C))
    A, D, initial_state = (None if t is None else t.contiguous() for t in (A, D, initial_state))
    cu_seqlens = cu_seqlens.to(torch.int32).contiguous()
    return _SelectiveScan.apply(u, dt, A, B, C, D, initial_state, cu_seqlens, reverse)


class _Description(ctypes.Structure):
    """Mirrors ``Scan`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("sequences", "channels", "states")),
        *((name, ctypes.c_int64) for name in ("u_row", "dt_row", "B_row", "C_row")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens", "checkpoint", "u", "dt", "B", "C", "A", "D", "initial")),
        *((name, ctypes.c_int32) for name in ("reverse", "threads")),
    ]


def _describe(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, reverse) -> _Description:
    sizes = (len(cu_seqlens) - 1, u.shape[1], B.shape[1])
    rows = (t.stride(0) for t in (u, dt, B, C))
    data = (pointer(t) for t in (cu_seqlens, checkpoint, u, dt, B, C, A, D, initial_state))
    return _Description(*sizes, *rows, *data, reverse, threads_for(u.shape[1]))


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, dt, A, B, C, D, initial_state, cu_seqlens, reverse):
        S, E, N = len(cu_seqlens) - 1, u.shape[1], B.shape[1]
        kept_states = -(-cu_seqlens.diff().long() // library().recbole_ssm_scan_segment())
        checkpoint = kept_states.cumsum(0) - kept_states
        kept = u.new_empty(int(kept_states.sum()), N, E) if any(ctx.needs_input_grad) else None
        y, final = u.new_empty(len(u), E), u.new_empty(S, N, E)
        description = _describe(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, reverse)
        call("scan", description, y, final, kept)
        ctx.save_for_backward(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, kept)
        ctx.reverse = reverse
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    def backward(ctx, dy, d_final):
        *inputs, kept = ctx.saved_tensors
        u, dt, A, B, _, D, initial_state, *_ = inputs
        description = _describe(*inputs, ctx.reverse)
        dy = u.new_zeros(u.shape) if dy is None else dy.contiguous()
        d_final = None if d_final is None else d_final.contiguous()
        du, d_dt, dA = u.new_empty(u.shape), dt.new_empty(dt.shape), torch.zeros_like(A)
        dB, dC = u.new_zeros(2, description.threads, *B.shape)
        dD = None if D is None else torch.zeros_like(D)
        d_initial = None if initial_state is None else torch.empty_like(initial_state)
        call("scan_backward", description, len(u), dy, d_final, kept, du, d_dt, dA, dB, dC, dD, d_initial)
        return du, d_dt, dA, dB.sum(0), dC.sum(0), dD, d_initial, None, None
