"""The position-wise feed-forward network with its residual, dropouts and LayerNorm."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends import compute_in_type
from recbole_ssm.ops.dropping import dropout as drop
from recbole_ssm.ops.packing import check_each

__all__ = ["feed_forward"]


def feed_forward(
    x: Tensor,
    W1: Tensor,
    b1: Tensor,
    W2: Tensor,
    b2: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float,
    dropout: float,
    dropout_after_norm: bool,
) -> Tensor:
    """``LayerNorm(x + dropout(W2 dropout(gelu(W1 x + b1)) + b2))`` (Mamba4Rec, arXiv 2403.03900, eq. 12).

    Args:
        x: (R, d).
        W1: (E, d).
        b1: (E,).
        W2: (d, E).
        b2: (d,).
        weight: of the norm, (d,).
        bias: of the norm, (d,).
        eps: of the norm.
        dropout: probability from 0 to 1.
        dropout_after_norm: SSD4Rec's order: the second dropout follows the norm instead of preceding the sum.

    Returns:
        (R, d).
    """
    d, E = len(b2), len(b1)
    check_each(x=(x, (x.shape[0], d)), W1=(W1, (E, d)), W2=(W2, (d, E)), weight=(weight, (d,)), bias=(bias, (d,)))
    parameters = (W1, b1, W2, b2, weight, bias)
    options = {"eps": eps, "dropout": dropout, "dropout_after_norm": dropout_after_norm, "drop": drop}
    return compute_in_type("feed_forward", W1.dtype, (x,), *parameters, **options)
