"""The scan of Mamba in C."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_ssm.ops.backends.layout import borders, contiguous, rows_contiguous
from recbole_ssm.ops.backends.native.loading import call, loaded, pointers, threads_for


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
    """The op ``selective_scan`` in float32. The library has its states, and A, the other way round: (N, E)."""
    u, dt, B, C = (rows_contiguous(tensor) for tensor in (u, dt, B, C))
    initial = None if initial_state is None else initial_state.mT.contiguous()
    given = _Given(u, dt, A.mT.contiguous(), B, C, contiguous(D), initial)
    y, final = _SelectiveScan.apply(borders(cu_seqlens), reverse, *given)
    return (y, final.mT) if return_final_state else y


class _Given(NamedTuple):
    """u and dt (T, E), A (N, E), B and C (T, N), D (E,) or None, initial states (S, N, E) or None."""

    u: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    initial: Tensor | None


class _Description(ctypes.Structure):
    """Mirrors ``Scan`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("sequences", "channels", "states")),
        *((name, ctypes.c_int64) for name in ("u_row", "dt_row", "B_row", "C_row")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens", "checkpoint", "u", "dt", "B", "C", "A", "D", "initial")),
        *((name, ctypes.c_int32) for name in ("reverse", "threads")),
    ]


def _describe(given: _Given, cu_seqlens: Tensor, checkpoint: Tensor, reverse: bool) -> _Description:
    u, dt, A, B, C, D, initial = given
    sizes = (len(cu_seqlens) - 1, u.shape[1], B.shape[1])
    rows = (tensor.stride(0) for tensor in (u, dt, B, C))
    data = pointers((cu_seqlens, checkpoint, u, dt, B, C, A, D, initial))
    return _Description(*sizes, *rows, *data, reverse, threads_for(u.shape[1]))


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cu_seqlens: Tensor, reverse: bool, *tensors: Any) -> tuple[Tensor, Tensor]:
        given = _Given(*tensors)
        u, (S, E, N) = given.u, (len(cu_seqlens) - 1, given.u.shape[1], given.B.shape[1])
        kept_states = -(-cu_seqlens.diff().long() // loaded().recbole_ssm_scan_segment())
        checkpoint = kept_states.cumsum(0) - kept_states
        kept = u.new_empty(int(kept_states.sum()), N, E) if any(ctx.needs_input_grad) else None
        y, final = u.new_empty(len(u), E), u.new_empty(S, N, E)
        call("scan", _describe(given, cu_seqlens, checkpoint, reverse), y, final, kept)
        ctx.save_for_backward(*given, cu_seqlens, checkpoint, kept)
        ctx.reverse = reverse
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, cu_seqlens, checkpoint, kept = ctx.saved_tensors
        given = _Given(*tensors)
        u, dt, A, B, _, D, initial = given
        description = _describe(given, cu_seqlens, checkpoint, ctx.reverse)
        dy = u.new_zeros(u.shape) if dy is None else dy.contiguous()
        du, d_dt, dA = u.new_empty(u.shape), dt.new_empty(dt.shape), torch.zeros_like(A)
        dB, dC = u.new_zeros(2, description.threads, *B.shape)
        dD = None if D is None else torch.zeros_like(D)
        d_initial = None if initial is None else torch.empty_like(initial)
        into = (du, d_dt, dA, dB, dC, dD, d_initial)
        call("scan_backward", description, len(u), dy, contiguous(d_final), kept, *into)
        return None, None, du, d_dt, dA, dB.sum(0), dC.sum(0), dD, d_initial
