"""The position-wise feed-forward network behind every mixer."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_ssm.layers.dropout import Dropout
from recbole_ssm.ops import feed_forward


class FeedForward(nn.Module):
    """``LayerNorm(x + dropout(W2 dropout(gelu(W1 x))))``, as in Mamba4Rec (arXiv 2403.03900, eq. 12).

    Args:
        d_model: model width.
        d_inner: inner width, usually ``4 * d_model``.
        dropout: drop probability.
        dropout_after_norm: SSD4Rec's order: the second dropout follows the LayerNorm instead of preceding the sum.
    """

    def __init__(self, d_model: int, d_inner: int, dropout: float, *, dropout_after_norm: bool = False):
        super().__init__()
        self.w_1 = nn.Linear(d_model, d_inner)
        self.w_2 = nn.Linear(d_inner, d_model)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(d_model, eps=1e-12)
        self.dropout_after_norm = dropout_after_norm

    def forward(self, x: Tensor) -> Tensor:
        """(R, d_model) to (R, d_model)."""
        return feed_forward(
            x,
            self.w_1.weight,
            self.w_1.bias,
            self.w_2.weight,
            self.w_2.bias,
            self.norm.weight,
            self.norm.bias,
            eps=self.norm.eps,
            dropout=self.dropout.p if self.dropout.training else 0.0,
            dropout_after_norm=self.dropout_after_norm,
        )
