"""The linear recurrence with complex, constant decays over a packed stream on a GPU.

A program has a sequence and a block of channels, and walks along the sequence. It loads some tokens at a time, so that
it waits for memory once for all of them. The gradient of x is the same recurrence, back through the sequence. Triton
has no complex numbers: kernels read real and imaginary parts side by side.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recbole_ssm.ops.backends.layout import borders

_TOKENS, _CHANNELS = 16, 32
"""Loaded at a time, and of a program."""


@triton.jit
def _load(parts, at, here):  # type: ignore[no-untyped-def]  # in Triton's language, whose pointers have no types
    return tl.load(parts + 2 * at, here, 0.0), tl.load(parts + 2 * at + 1, here, 0.0)


@triton.jit
def _store(parts, at, re, im, here):  # type: ignore[no-untyped-def]  # likewise
    tl.store(parts + 2 * at, re, here)
    tl.store(parts + 2 * at + 1, im, here)


@triton.jit
def _walk(  # type: ignore[no-untyped-def]  # likewise
    x, decay, cu_seqlens, h, before, d_decay, E,
    BACK: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    """``h`` from ``x``; or ``BACK``, with conjugate decays: dx from dh, and from h, ``before``, a sum for d_decay."""
    sequence = tl.program_id(0).to(tl.int64)
    e = tl.program_id(1) * BLOCK_E + tl.arange(0, BLOCK_E)
    start, end = tl.load(cu_seqlens + sequence).to(tl.int64), tl.load(cu_seqlens + sequence + 1).to(tl.int64)
    decay_re, decay_im = _load(decay, e, e < E)
    if BACK:
        decay_im = -decay_im
    h_re, h_im = tl.zeros((BLOCK_E,), tl.float32), tl.zeros((BLOCK_E,), tl.float32)
    sum_re, sum_im = tl.zeros((BLOCK_E,), tl.float32), tl.zeros((BLOCK_E,), tl.float32)
    for done in range(0, end - start, BLOCK_T):
        loaded = ()
        for i in tl.static_range(BLOCK_T):
            t = end - 1 - done - i if BACK else start + done + i
            here = (e < E) & (t >= start) & (t < end)
            loaded += (_load(x, t * E + e, here),)  # type: ignore[assignment]  # it grows
            if BACK:
                loaded += (_load(before, (t - 1) * E + e, here & (t > start)),)  # type: ignore[assignment]
        for i in tl.static_range(BLOCK_T):
            t = end - 1 - done - i if BACK else start + done + i
            re, im = loaded[i * (1 + BACK)]  # type: ignore[var-annotated]
            h_re, h_im = decay_re * h_re - decay_im * h_im + re, decay_re * h_im + decay_im * h_re + im
            if BACK:
                re, im = loaded[2 * i + 1]
                sum_re += h_re * re + h_im * im
                sum_im += h_im * re - h_re * im
            _store(h, t * E + e, h_re, h_im, (e < E) & (t >= start) & (t < end))
    if BACK:
        _store(d_decay, sequence * E + e, sum_re, sum_im, e < E)


def linear_recurrence(x: Tensor, decay: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The op ``linear_recurrence`` in complex64."""
    return _Recurrence.apply(x, decay, borders(cu_seqlens))


class _Recurrence(torch.autograd.Function):
    """x (T, E), decay (E,), cu_seqlens (S + 1,) to h (T, E)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, cu_seqlens: Tensor) -> Tensor:
        decay, h = _parts(decay), x.new_empty(x.shape)
        _run(x, decay, cu_seqlens, h)
        ctx.save_for_backward(decay, cu_seqlens, h)
        return h

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, ...]:
        decay, cu_seqlens, h = ctx.saved_tensors
        dx, d_decay = h.new_empty(h.shape), h.new_empty(len(cu_seqlens) - 1, h.shape[1])
        _run(dh, decay, cu_seqlens, dx, h, d_decay)
        return dx, d_decay.sum(0), None


def _parts(tensor: Tensor) -> Tensor:
    """A complex tensor as one of real and imaginary parts."""
    return torch.view_as_real(tensor.resolve_conj().contiguous())


def _run(
    x: Tensor, decay: Tensor, cu_seqlens: Tensor, h: Tensor, before: Tensor | None = None, d_decay: Tensor | None = None
) -> None:
    E, back = h.shape[1], before is not None
    others = (None, None) if before is None or d_decay is None else (_parts(before), _parts(d_decay))
    _walk[(len(cu_seqlens) - 1, triton.cdiv(E, _CHANNELS))](
        _parts(x), decay, cu_seqlens, _parts(h), *others, E, back, _TOKENS, _CHANNELS, num_warps=1
    )
