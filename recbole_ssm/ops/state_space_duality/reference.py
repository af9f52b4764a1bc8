"""Mamba-2's recurrence as the paper writes it, one token after another: slow, and easy to check.

Tests hold every backend against it in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.packing import sequences


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    *,
    D: Tensor | None = None,
    reverse: bool = False,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-2 (arXiv 2405.21060, eq. 1 with scalar decay): ``h = exp(dt A) h + dt x B^T; y = h C + D x``.

    Returns y (T, H, P) and the final states (S, H, P, N).
    """
    (_, H, P), (_, G, N) = x.shape, B.shape
    y = [x.new_empty(0)] * len(x)
    final: list[Tensor] = []
    for s, tokens in sequences(cu_seqlens):
        h = x.new_zeros(H, P, N) if initial_state is None else initial_state[s]
        for t in reversed(tokens) if reverse else tokens:
            b = B[t].repeat_interleave(H // G, 0)
            c = C[t].repeat_interleave(H // G, 0)
            decay = torch.exp(dt[t] * A)
            h = decay[:, None, None] * h + (dt[t][:, None] * x[t])[:, :, None] * b[:, None, :]
            y[t] = (h * c[:, None, :]).sum(-1)
            if D is not None:
                y[t] = y[t] + D[:, None] * x[t]
        final.append(h)
    return torch.stack(y), torch.stack(final)
