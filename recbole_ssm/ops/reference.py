"""The recurrences as the papers write them: one token after another, one sequence after another.

Slow on purpose and without a trick, so that anyone can check them against the paper. Tests hold every
backend of the ops against these in float64. Shapes and arguments are those of the ops.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _sequences(cu_seqlens: Tensor, reverse: bool):
    """Yield (sequence number, its token numbers in the order of the recurrence)."""
    borders = cu_seqlens.tolist()
    for s, (start, end) in enumerate(zip(borders, borders[1:], strict=False)):
        tokens = range(start, end)
        yield s, (reversed(tokens) if reverse else tokens)


def ssd(x, dt, A, B, C, cu_seqlens, *, D=None, reverse=False, initial_state=None):
    """Mamba-2 (arXiv 2405.21060, eq. 1 with scalar decay): ``h = exp(dt A) h + dt x B^T; y = h C + D x``.

    Returns y (T, H, P) and the final states (S, H, P, N).
    """
    (_, H, P), (_, G, N) = x.shape, B.shape
    y = [None] * len(x)
    final = []
    for s, tokens in _sequences(cu_seqlens, reverse):
        h = x.new_zeros(H, P, N) if initial_state is None else initial_state[s]
        for t in tokens:
            b = B[t].repeat_interleave(H // G, 0)
            c = C[t].repeat_interleave(H // G, 0)
            decay = torch.exp(dt[t] * A)
            h = decay[:, None, None] * h + (dt[t][:, None] * x[t])[:, :, None] * b[:, None, :]
            y[t] = (h * c[:, None, :]).sum(-1)
            if D is not None:
                y[t] = y[t] + D[:, None] * x[t]
        final.append(h)
    return torch.stack(y), torch.stack(final)


def selective_scan(u, dt, A, B, C, cu_seqlens, *, D=None, reverse=False, initial_state=None):
    """Mamba (arXiv 2312.00752, Algorithm 2): ``h = exp(dt A) h + dt u B; y = h C + D u``, all per channel.

    Returns y (T, E) and the final states (S, E, N).
    """
    y = [None] * len(u)
    final = []
    for s, tokens in _sequences(cu_seqlens, reverse):
        h = torch.zeros_like(A) if initial_state is None else initial_state[s]
        for t in tokens:
            h = torch.exp(dt[t][:, None] * A) * h + (dt[t] * u[t])[:, None] * B[t][None, :]
            y[t] = (h * C[t][None, :]).sum(-1)
            if D is not None:
                y[t] = y[t] + D * u[t]
        final.append(h)
    return torch.stack(y), torch.stack(final)


def depthwise_conv1d(x, weight, bias, cu_seqlens, offset):
    """``y[t] = bias + sum_k weight[:, k] x[t + k - offset]`` over the taps within t's sequence."""
    y = [None] * len(x)
    borders = cu_seqlens.tolist()
    for start, end in zip(borders, borders[1:], strict=False):
        for t in range(start, end):
            y[t] = bias
            for k in range(weight.shape[1]):
                if start <= t + k - offset < end:
                    y[t] = y[t] + weight[:, k] * x[t + k - offset]
    return torch.stack(y)
