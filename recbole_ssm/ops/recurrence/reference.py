"""The linear recurrence, one token after another."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.packing import sequences


def linear_recurrence(x: Tensor, decay: Tensor, cu_seqlens: Tensor) -> Tensor:
    """``h[t] = decay * h[t - 1] + x[t]`` (arXiv 2303.06349, eq. 1 with a diagonal matrix)."""
    rows = [x[:0]]
    for _, tokens in sequences(cu_seqlens):
        h = torch.zeros_like(decay)
        for t in tokens:
            h = decay * h + x[t]
            rows.append(h[None])
    return torch.cat(rows)
