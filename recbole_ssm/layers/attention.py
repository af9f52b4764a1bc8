"""Multi-head causal self-attention as a mixer."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_ssm.ops import causal_attention
from recbole_ssm.ops.packing import at


class CausalSelfAttention(nn.Module):
    """Multi-head self-attention of each token to itself and those before it (arXiv 1706.03762, section 3.2).

    Args:
        d_model: model width.
        n_heads: heads; divides ``d_model``.

    Raises:
        ValueError: it does not.
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"n_heads {n_heads} does not divide the width {d_model}")
        self.n_heads = n_heads
        self.in_proj = nn.Linear(d_model, 3 * d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, hidden: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None) -> Tensor:
        """As :meth:`recbole_ssm.layers.Mamba2.forward`."""
        q, k, v = self.in_proj(hidden).unflatten(-1, (3, self.n_heads, -1)).unbind(-3)
        return self.out_proj(at(readout, causal_attention(q, k, v, cu_seqlens).flatten(-2)))
