"""RMSNorm with a gate."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends import compute_in_type
from recbole_ssm.ops.packing import check_each

__all__ = ["gated_rms_norm"]


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, *, eps: float, norm_before_gate: bool) -> Tensor:
    """``weight * RMSNorm(y * silu(z))`` as in Mamba-2, or ``weight * RMSNorm(y) * silu(z)`` as in Hydra.

    Args:
        y: (R, n).
        z: (R, n) the gate.
        weight: (n,).
        eps: added to the mean square.
        norm_before_gate: Hydra's order.

    Returns:
        (R, n).
    """
    shape = y.shape[0], len(weight)
    check_each(y=(y, shape), z=(z, shape))
    options = {"eps": eps, "norm_before_gate": norm_before_gate}
    return compute_in_type("gated_norm", weight.dtype, (y, z), weight, **options)
