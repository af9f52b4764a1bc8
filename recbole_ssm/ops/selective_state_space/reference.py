"""Mamba's recurrence as the paper writes it, one token after another: slow, and easy to check.

Tests hold every backend against it in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.packing import sequences


def selective_scan(
    u: Tensor,
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
    """Mamba (arXiv 2312.00752, Algorithm 2): ``h = exp(dt A) h + dt u B; y = h C + D u``, all per channel.

    Returns y (T, E) and the final states (S, E, N).
    """
    y = [u.new_empty(0)] * len(u)
    final: list[Tensor] = []
    for s, tokens in sequences(cu_seqlens):
        h = torch.zeros_like(A) if initial_state is None else initial_state[s]
        for t in reversed(tokens) if reverse else tokens:
            h = torch.exp(dt[t][:, None] * A) * h + (dt[t] * u[t])[:, None] * B[t][None, :]
            y[t] = (h * C[t][None, :]).sum(-1)
            if D is not None:
                y[t] = y[t] + D * u[t]
        final.append(h)
    return torch.stack(y), torch.stack(final)
