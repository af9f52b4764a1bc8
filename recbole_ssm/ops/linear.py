"""Products of many rows and a large matrix, on a CPU by the library that is quicker at them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_ssm.ops.precision import autocast_type

_ROWS, _WIDTH = 16, 256
"""Fewer rows, or a narrower matrix, are left to torch."""


def linear(module: nn.Module, x: Tensor) -> Tensor:
    """What a module makes of rows; for a plain ``nn.Linear`` on a CPU without gradients by oneDNN.

    Torch multiplies float32 by MKL, which takes 1.3 times as long on an AMD EPYC with AVX-512, at widths of 768 and
    above (one thread, torch 2.13). Its compiler calls oneDNN in the same way.

    Args:
        module: a layer, for example one with adapters, which is called.
        x: (R, in).

    Returns:
        (R, out).
    """
    if type(module) is not nn.Linear or not _suits(x, module.weight):
        found: Tensor = module(x)
        return found
    by_onednn: Tensor = torch.ops.mkldnn._linear_pointwise(x, module.weight, module.bias, "none", [], "")
    return by_onednn


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is there, and takes these without anything that is lost by it."""
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    large = x.dim() == 2 and len(x) >= _ROWS and min(weight.shape) >= _WIDTH
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and autocast_type(x) is None
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return large and plain and there and not learns and not torch.compiler.is_compiling()
