"""Attention as the paper writes it, one token after another."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.packing import sequences


def causal_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    """``y[t] = softmax(q[t] K^T / sqrt(P)) V`` over t and the tokens before it (arXiv 1706.03762, eq. 1)."""
    rows = [v[:0]]
    for _, tokens in sequences(cu_seqlens):
        for t in tokens:
            seen = slice(tokens.start, t + 1)
            weight = torch.softmax(torch.einsum("hp,khp->hk", q[t], k[seen]) / q.shape[-1] ** 0.5, -1)
            rows.append(torch.einsum("hk,khp->hp", weight, v[seen])[None])
    return torch.cat(rows)
