"""How state-space layers choose their initial step sizes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def inverse_softplus_dt(size: int, dt_min: float = 1e-3, dt_max: float = 0.1, dt_floor: float = 1e-4) -> Tensor:
    """Biases (size,) whose softplus is log-uniform in ``[dt_min, dt_max]`` (arXiv 2206.12037, as Mamba uses it)."""
    dt = torch.exp(torch.rand(size) * (math.log(dt_max) - math.log(dt_min)) + math.log(dt_min)).clamp(min=dt_floor)
    return dt + torch.log(-torch.expm1(-dt))
