"""The selective scan in C, float32 on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.native import Scan, library, pointer


def takes(*tensors: Tensor) -> bool:
    """Whether the library is there and computes with tensors like these."""
    return library() is not None and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


def scan_compiled(u, dt, A, B, C, cu_seqlens, D, initial_state, reverse):
    """``y`` and final states of :func:`recbole_ssm.ops.selective_scan`."""
    u, dt, B, C = (t if t.stride(1) == 1 else t.contiguous() for t in (u, dt, B, C))
    # The library wants channels side by side: states come before them.
    initial_state = None if initial_state is None else initial_state.mT.contiguous()
    D = None if D is None else D.contiguous()
    cu_seqlens = cu_seqlens.to(torch.int32).contiguous()
    y, final = _Scan.apply(u, dt, A.mT.contiguous(), B, C, D, initial_state, cu_seqlens, reverse)
    return y, final.mT


def _describe(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, reverse) -> Scan:
    S, (N, E) = len(cu_seqlens) - 1, A.shape
    rows = (t.stride(0) for t in (u, dt, B, C))
    data = (pointer(t) for t in (cu_seqlens, checkpoint, u, dt, A, B, C, D, initial_state))
    return Scan(S, E, N, *rows, *data, reverse, max(1, min(torch.get_num_threads(), -(-E // 16))))


def _call(function, *arguments) -> None:
    if function(*arguments):
        raise MemoryError("the selective scan ran out of memory")


class _Scan(torch.autograd.Function):
    """A is (N, E) and the states are (S, N, E), as the library has them."""

    @staticmethod
    def forward(ctx, u, dt, A, B, C, D, initial_state, cu_seqlens, reverse):
        S, (N, E) = len(cu_seqlens) - 1, A.shape
        segments = -(-cu_seqlens.diff().long() // library().selective_scan_segment())
        checkpoint = segments.cumsum(0) - segments
        kept = u.new_empty(int(segments.sum()), N, E) if any(ctx.needs_input_grad) else None
        y, final = u.new_empty(len(u), E), u.new_empty(S, N, E)
        scan = _describe(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, reverse)
        _call(library().selective_scan_forward, scan, pointer(y), pointer(final), pointer(kept))
        ctx.save_for_backward(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, kept)
        ctx.reverse = reverse
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    def backward(ctx, dy, d_final):
        *inputs, kept = ctx.saved_tensors
        u, dt, A, B, C, D, initial_state, *_ = inputs
        scan = _describe(*inputs, ctx.reverse)
        T, N = len(u), len(A)
        dy = u.new_zeros(u.shape) if dy is None else dy.contiguous()
        d_final = None if d_final is None else d_final.contiguous()
        du, d_dt, dA = u.new_empty(u.shape), u.new_empty(u.shape), torch.zeros_like(A)
        dB, dC = u.new_zeros(2, scan.threads, T, N)
        dD = None if D is None else torch.zeros_like(D)
        d_initial = None if initial_state is None else torch.empty_like(initial_state)
        buffers = (dy, d_final, kept, du, d_dt, dA, dB, dC, dD, d_initial)
        _call(library().selective_scan_backward, scan, T, *(pointer(t) for t in buffers))
        return du, d_dt, dA, dB.sum(0), dC.sum(0), dD, d_initial, None, None
