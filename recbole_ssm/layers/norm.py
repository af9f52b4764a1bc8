"""RMSNorm with a gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_ssm.ops import gated_rms_norm


class GatedRMSNorm(nn.Module):
    """``RMSNorm(y * silu(z))`` as in Mamba-2, or ``RMSNorm(y) * silu(z)`` (``norm_before_gate``) as in Hydra."""

    def __init__(self, size: int, *, norm_before_gate: bool = False, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.norm_before_gate = norm_before_gate
        self.eps = eps

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Y and z: (R, size); returns (R, size)."""
        return gated_rms_norm(y, z, self.weight, eps=self.eps, norm_before_gate=self.norm_before_gate)
