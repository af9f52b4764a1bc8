"""The scan of Mamba-2 in C."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recbole_ssm.ops.backends.layout import borders, contiguous, rows_contiguous
from recbole_ssm.ops.backends.native.loading import call, pointers
from recbole_ssm.ops.packing import share_out


def ssd(
    x: Tensor,
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
    """The op ``ssd`` in float32: the library has groups one by one, and the states of one as (N, H P)."""
    (_, H, P), G = x.shape, B.shape[1]
    cu_seqlens = borders(cu_seqlens)
    y, final = [], []
    for g in range(G):
        heads = slice(g * H // G, (g + 1) * H // G)
        rows = (rows_contiguous(part) for part in (x[:, heads].flatten(1), dt[:, heads], B[:, g], C[:, g]))
        of_heads = (contiguous(A[heads]), None if D is None else contiguous(D[heads]))
        initial = None if initial_state is None else initial_state[:, heads].flatten(1, 2).mT.contiguous()
        y_g, final_g = _Ssd.apply(cu_seqlens, reverse, return_final_state, *rows, *of_heads, initial)
        y.append(y_g.unflatten(1, (-1, P)))
        if return_final_state:
            final.append(final_g.mT.unflatten(1, (-1, P)))
    all_y = y[0] if G == 1 else torch.cat(y, 1)
    return (all_y, torch.cat(final, 1)) if return_final_state else all_y


class _Given(NamedTuple):
    """Of one group: x (T, H P), dt (T, H), B and C (T, N), A (H,), D (H,) or None, initial (S, N, H P) or None."""

    x: Tensor
    dt: Tensor
    B: Tensor
    C: Tensor
    A: Tensor
    D: Tensor | None
    initial: Tensor | None


class _Cut(NamedTuple):
    """The stream cut into chunks within which no decay leaves the range of float32, and the threads that compute it."""

    cu_seqlens: Tensor
    first_chunk: Tensor
    """(S + 1,) number of the first chunk of each sequence."""
    steps: Tensor
    """(T,) tokens of each chunk; at most there is a chunk per token."""
    owner: Tensor | None
    """(S,) the thread of each sequence; None: the threads share the heads."""


class _Description(ctypes.Structure):
    """Mirrors ``Ssd`` in library.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("sequences", "heads", "headdim", "states")),
        *((name, ctypes.c_int64) for name in ("x_row", "dt_row", "B_row", "C_row")),
        *((name, ctypes.c_void_p) for name in ("cu_seqlens", "first_chunk", "steps", "owner")),
        *((name, ctypes.c_void_p) for name in ("x", "dt", "B", "C", "A", "D", "initial")),
        *((name, ctypes.c_int32) for name in ("reverse", "threads")),
    ]


def owners(first_chunk: Tensor, threads: int) -> Tensor | None:
    """The thread (S,) of each sequence, balanced by length; None if one would get 20 % more than its share."""
    chunks = first_chunk.diff()
    owner = share_out(chunks, threads)
    most = owner.bincount(chunks.double(), minlength=threads).max()
    return owner.int() if most * threads < 1.2 * first_chunk[-1] else None


def _describe(given: _Given, cut: _Cut, reverse: bool) -> _Description:
    x, dt, B, C, *_ = given
    H = dt.shape[1]
    threads = min(torch.get_num_threads(), H) if cut.owner is None else int(cut.owner.max()) + 1
    sizes = (len(cut.cu_seqlens) - 1, H, x.shape[1] // H, B.shape[1])
    rows = (tensor.stride(0) for tensor in (x, dt, B, C))
    return _Description(*sizes, *rows, *pointers(cut), *pointers(given), reverse, threads)


def _cut(given: _Given, cu_seqlens: Tensor, reverse: bool) -> _Cut:
    T, S = len(given.x), len(cu_seqlens) - 1
    first_chunk, steps = cu_seqlens.new_empty(S + 1, dtype=torch.int64), cu_seqlens.new_empty(T)
    cut = _Cut(cu_seqlens, first_chunk, steps, None)
    call("ssd_cut", _describe(given, cut, reverse), first_chunk, steps)
    threads = torch.get_num_threads()
    return cut._replace(owner=owners(first_chunk, threads)) if threads > 1 else cut


class _Ssd(torch.autograd.Function):
    """One group: the tensors of :class:`_Given` to y (T, H P) and final states (S, N, H P), or None."""

    @staticmethod
    def forward(
        ctx: Any, cu_seqlens: Tensor, reverse: bool, return_final_state: bool, *tensors: Any
    ) -> tuple[Tensor, Tensor | None]:
        given = _Given(*tensors)
        x, (S, (T, E), N) = given.x, (len(cu_seqlens) - 1, given.x.shape, given.B.shape[1])
        cut = _cut(given, cu_seqlens, reverse)
        y, flowing, kept = x.new_empty(T, E), None, None
        final = x.new_zeros(S, N, E) if return_final_state else None
        if any(ctx.needs_input_grad):
            flowing, kept = x.new_empty(T, E), x.new_empty(int(cut.first_chunk[-1]), N, E)
        call("ssd", _describe(given, cut, reverse), y, flowing, kept, final)
        ctx.save_for_backward(*given, *cut, flowing, kept)
        ctx.reverse = reverse
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        *tensors, flowing, kept = ctx.saved_tensors
        given, cut = _Given(*tensors[:7]), _Cut(*tensors[7:])
        x, dt, B, _, A, D, initial = given
        description = _describe(given, cut, ctx.reverse)
        threads = description.threads
        dy = x.new_zeros(x.shape) if dy is None else dy.contiguous()
        dx, d_dt, dA = x.new_empty(x.shape), dt.new_empty(dt.shape), A.new_zeros(threads, *A.shape, dtype=torch.float64)
        dB, dC = x.new_empty(2, threads if cut.owner is None else 1, *B.shape)
        dD = None if D is None else torch.zeros_like(dA)
        d_initial = None if initial is None else torch.zeros_like(initial)
        into = (dx, d_dt, dA, dB, dC, dD, d_initial)
        call("ssd_backward", description, len(x), dy, flowing, kept, contiguous(d_final), *into)
        dB, dC = (sums[0] if len(sums) == 1 else sums.sum(0) for sums in (dB, dC))
        sum_of_D = None if dD is None or D is None else dD.sum(0).to(D.dtype)
        return None, None, None, dx, d_dt, dB, dC, dA.sum(0).to(A.dtype), sum_of_D, d_initial
