"""The optional C library: found, loaded, described to ctypes, and wrapped for autograd.

Built by ``pip install`` where a C compiler is there. Everything that it computes is also there in PyTorch.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor


_INTERFACE = 1
"""Of scan.c: a library left behind by another version is not used."""


class _Description(ctypes.Structure):
    """Mirrors ``Scan`` in scan.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("sequences", "channels", "states", "per_head")),
        *((name, ctypes.c_int64) for name in ("u_row", "dt_row", "B_row", "C_row")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens", "checkpoint", "u", "dt", "B", "C", "A", "D", "initial")),
        *((name, ctypes.c_int32) for name in ("reverse", "threads")),
    ]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built."""
    for file in sorted(Path(__file__).parent.glob("_library*")):
        if file.suffix not in (".so", ".pyd", ".dylib"):
            continue
        try:
            loaded = ctypes.CDLL(str(file))
            if loaded.scan_interface() != _INTERFACE:
                continue
        except (OSError, AttributeError):  # built for another machine, or from other sources
            continue
        loaded.scan_segment.restype = ctypes.c_int64
        loaded.scan_forward.argtypes = [ctypes.POINTER(_Description), *[ctypes.c_void_p] * 3]
        loaded.scan_backward.argtypes = [ctypes.POINTER(_Description), ctypes.c_int64, *[ctypes.c_void_p] * 10]
        return loaded
    return None


def takes(*tensors: Tensor) -> bool:
    """Whether the library is there and computes with tensors like these."""
    return library() is not None and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


def scan(u, dt, A, B, C, cu_seqlens, D, initial_state, *, reverse: bool, headdim: int | None = None):
    """Both recurrences over E channels with N states, in float32.

    Args:
        u: (T, E).
        dt: (T, E), or (T, H) with ``headdim``.
        A: (N, E), or (E,) with ``headdim``.
        B: (T, N).
        C: (T, N).
        cu_seqlens: (S + 1,).
        D: (E,) or None.
        initial_state: (S, N, E) or None.
        reverse: run each sequence from its end.
        headdim: None for Mamba, where each state has a decay of its own; for Mamba-2 how many channels share dt.

    Returns:
        y (T, E) and final states (S, N, E).
    """
    u, dt, B, C = (t if t.stride(1) == 1 else t.contiguous() for t in (u, dt, B, C))
    A, D, initial_state = (None if t is None else t.contiguous() for t in (A, D, initial_state))
    cu_seqlens = cu_seqlens.to(torch.int32).contiguous()
    return _Scan.apply(u, dt, A, B, C, D, initial_state, cu_seqlens, reverse, headdim or 0)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _describe(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, reverse, per_head) -> _Description:
    sizes = (len(cu_seqlens) - 1, u.shape[1], B.shape[1], per_head)
    rows = (t.stride(0) for t in (u, dt, B, C))
    data = (_pointer(t) for t in (cu_seqlens, checkpoint, u, dt, B, C, A, D, initial_state))
    threads = max(1, min(torch.get_num_threads(), u.shape[1] // 16))
    return _Description(*sizes, *rows, *data, reverse, threads)


def _call(function, *arguments) -> None:
    if function(*arguments):
        raise MemoryError("the scan ran out of memory")


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, dt, A, B, C, D, initial_state, cu_seqlens, reverse, per_head):
        S, E, N = len(cu_seqlens) - 1, u.shape[1], B.shape[1]
        kept_states = -(-cu_seqlens.diff().long() // library().scan_segment())
        checkpoint = kept_states.cumsum(0) - kept_states
        kept = u.new_empty(int(kept_states.sum()), N, E) if any(ctx.needs_input_grad) else None
        y, final = u.new_empty(len(u), E), u.new_empty(S, N, E)
        description = _describe(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, reverse, per_head)
        _call(library().scan_forward, description, _pointer(y), _pointer(final), _pointer(kept))
        ctx.save_for_backward(u, dt, A, B, C, D, initial_state, cu_seqlens, checkpoint, kept)
        ctx.reverse, ctx.per_head = reverse, per_head
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    def backward(ctx, dy, d_final):
        *inputs, kept = ctx.saved_tensors
        u, dt, A, B, _, D, initial_state, *_ = inputs
        description = _describe(*inputs, ctx.reverse, ctx.per_head)
        dy = u.new_zeros(u.shape) if dy is None else dy.contiguous()
        d_final = None if d_final is None else d_final.contiguous()
        du, d_dt, dA = u.new_empty(u.shape), dt.new_zeros(dt.shape), torch.zeros_like(A)
        dB, dC = u.new_zeros(2, description.threads, *B.shape)
        dD = None if D is None else torch.zeros_like(D)
        d_initial = None if initial_state is None else torch.empty_like(initial_state)
        buffers = (dy, d_final, kept, du, d_dt, dA, dB, dC, dD, d_initial)
        _call(library().scan_backward, description, len(u), *(_pointer(t) for t in buffers))
        return du, d_dt, dA, dB.sum(0), dC.sum(0), dD, d_initial, None, None, None
