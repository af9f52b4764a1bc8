"""RMSNorm with a gate as its formula."""

from __future__ import annotations

import torch
from torch import Tensor


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, *, eps: float, norm_before_gate: bool) -> Tensor:
    """``weight * v / sqrt(mean(v^2) + eps)`` with ``v = y z sigmoid(z)``; or the gate after the norm."""
    gate = z * torch.sigmoid(z)
    v = y if norm_before_gate else y * gate
    normed = weight * v / (v.square().mean(1, keepdim=True) + eps).sqrt()
    return normed * gate if norm_before_gate else normed
