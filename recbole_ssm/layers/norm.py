"""RMSNorm with a gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_ssm.ops import native
from recbole_ssm.ops.backend import choose
from recbole_ssm.ops.packing import check_each


class GatedRMSNorm(nn.Module):
    """``RMSNorm(y * silu(z))`` as in Mamba-2, or ``RMSNorm(y) * silu(z)`` (``norm_before_gate``) as in Hydra."""

    def __init__(self, size: int, *, norm_before_gate: bool = False, eps: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.norm_before_gate = norm_before_gate
        self.eps = eps

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """y and z: (R, size); returns (R, size)."""
        shape = len(y), len(self.weight)
        check_each(y=(y, shape), z=(z, shape))
        given = y.to(self.weight.dtype), z.to(self.weight.dtype), self.weight
        if choose("gated_norm", *given) == "native":
            return native.gated_norm(*given, self.eps, norm_before_gate=self.norm_before_gate)
        if self.norm_before_gate:
            return self._norm(y) * F.silu(z)
        return self._norm(y * F.silu(z))

    def _norm(self, y: Tensor) -> Tensor:
        return F.rms_norm(y.to(self.weight.dtype), self.weight.shape, self.weight, self.eps)
