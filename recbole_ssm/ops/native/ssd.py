"""The scan of Mamba-2 in C."""

from __future__ import annotations

import ctypes

import torch

from recbole_ssm.ops.native.loading import call, pointer, rows_contiguous
from recbole_ssm.ops.packing import share_out


def ssd(x, dt, A, B, C, cu_seqlens, D, initial_state, *, reverse: bool, return_final_state: bool):
    """``ssd`` of one group in float32, with its states the other way round.

    Args:
        x: (T, H, P).
        dt: (T, H).
        A: (H,).
        B: (T, N).
        C: (T, N).
        cu_seqlens: (S + 1,).
        D: (H,) or None.
        initial_state: (S, N, H P) or None.
        reverse: run each sequence from its end.
        return_final_state: whether final states are wanted.

    Returns:
        y (T, H, P) and final states (S, N, H P) or None.
    """
    P = x.shape[2]
    x, dt, B, C = (rows_contiguous(t) for t in (x.flatten(1), dt, B, C))
    A, D, initial_state = (None if t is None else t.contiguous() for t in (A, D, initial_state))
    cu_seqlens = cu_seqlens.to(torch.int32).contiguous()
    y, final = _Ssd.apply(x, dt, A, B, C, D, initial_state, cu_seqlens, reverse, return_final_state)
    return y.unflatten(1, (-1, P)), final


class _Description(ctypes.Structure):
    """Mirrors ``Ssd`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("sequences", "heads", "headdim", "states")),
        *((name, ctypes.c_int64) for name in ("x_row", "dt_row", "B_row", "C_row")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens", "first_chunk", "steps", "owner")),
        *((name, ctypes.c_void_p) for name in ("x", "dt", "B", "C", "A", "D", "initial")),
        *((name, ctypes.c_int32) for name in ("reverse", "threads")),
    ]


def _owners(first_chunk: torch.Tensor, threads: int) -> torch.Tensor | None:
    """The thread (S,) of each sequence, dealt out by length, to and fro; None where one gets a fifth too much."""
    chunks = first_chunk.diff()
    owner = share_out(chunks, threads)
    most = owner.bincount(chunks.double(), minlength=threads).max()
    return owner.int() if most * threads < 1.2 * first_chunk[-1] else None


def _describe(x, dt, A, B, C, D, initial_state, cu_seqlens, first_chunk, steps, owner, reverse) -> _Description:
    H = dt.shape[1]
    threads = min(torch.get_num_threads(), H) if owner is None else int(owner.max()) + 1
    sizes = (len(cu_seqlens) - 1, H, x.shape[1] // H, B.shape[1])
    rows = (t.stride(0) for t in (x, dt, B, C))
    data = (pointer(t) for t in (cu_seqlens, first_chunk, steps, owner, x, dt, B, C, A, D, initial_state))
    return _Description(*sizes, *rows, *data, reverse, threads)


class _Ssd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dt, A, B, C, D, initial_state, cu_seqlens, reverse, return_final_state):
        S, (T, E), N = len(cu_seqlens) - 1, x.shape, B.shape[1]
        first_chunk, steps = cu_seqlens.new_empty(S + 1, dtype=torch.int64), cu_seqlens.new_empty(T)
        inputs = (x, dt, A, B, C, D, initial_state, cu_seqlens, first_chunk, steps)
        call("ssd_cut", _describe(*inputs, None, reverse), first_chunk, steps)
        threads = torch.get_num_threads()
        inputs = (*inputs, _owners(first_chunk, threads) if threads > 1 else None)
        description = _describe(*inputs, reverse)
        y, flowing, kept = x.new_empty(T, E), None, None
        final = x.new_zeros(S, N, E) if return_final_state else None
        if any(ctx.needs_input_grad):
            flowing, kept = x.new_empty(T, E), x.new_empty(int(first_chunk[-1]), N, E)
        call("ssd", description, y, flowing, kept, final)
        ctx.save_for_backward(*inputs, flowing, kept)
        ctx.reverse = reverse
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    def backward(ctx, dy, d_final):
        *inputs, flowing, kept = ctx.saved_tensors
        x, dt, A, B, _, D, initial_state, *_, owner = inputs
        description = _describe(*inputs, ctx.reverse)
        dy = x.new_zeros(x.shape) if dy is None else dy.contiguous()
        d_final = None if d_final is None else d_final.contiguous()
        threads = description.threads
        dx, d_dt, dA = x.new_empty(x.shape), dt.new_empty(dt.shape), A.new_zeros(threads, *A.shape, dtype=torch.float64)
        dB, dC = x.new_empty(2, threads if owner is None else 1, *B.shape)
        dD = None if D is None else torch.zeros_like(dA)
        d_initial = None if initial_state is None else torch.zeros_like(initial_state)
        call("ssd_backward", description, len(x), dy, flowing, kept, d_final, dx, d_dt, dA, dB, dC, dD, d_initial)
        dA, dD = dA.sum(0).to(A.dtype), None if dD is None else dD.sum(0).to(D.dtype)
        dB, dC = (sums[0] if len(sums) == 1 else sums.sum(0) for sums in (dB, dC))
        return dx, d_dt, dA, dB, dC, dD, d_initial, None, None, None
