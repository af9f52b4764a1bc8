"""How kernels want tensors to lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def rows_contiguous(tensor: Tensor) -> Tensor:
    """The tensor (T, ...), copied where a row's elements do not lie side by side."""
    return tensor if tensor[:1].is_contiguous() else tensor.contiguous()


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """The tensor, copied where it is not contiguous; None for None."""
    return None if tensor is None else tensor.contiguous()


def borders(cu_seqlens: Tensor) -> Tensor:
    """``cu_seqlens`` as kernels read it."""
    return cu_seqlens.to(torch.int32).contiguous()
