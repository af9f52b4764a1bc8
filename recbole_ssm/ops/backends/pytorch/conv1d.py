"""Short depthwise convolutions as sums of shifted streams."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.packing import flip_borders, positions


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, ahead: int, activation: str | None
) -> Tensor:
    """The op ``depthwise_conv1d``: a sum over taps of the stream, shifted and zero beyond borders."""
    before = positions(cu_seqlens, x.shape[0])
    after = positions(flip_borders(cu_seqlens), x.shape[0]).flip(0)
    y: Tensor | float = bias if bias is not None else 0.0
    for k, shift in enumerate(range(weight.shape[1] - 1 - ahead, -ahead - 1, -1)):
        tap = x
        if shift > 0:
            tap = F.pad(x, (0, 0, shift, 0))[: x.shape[0]] * (before >= shift)[:, None]
        elif shift < 0:
            tap = F.pad(x, (0, 0, 0, -shift))[-shift:] * (after >= -shift)[:, None]
        y = y + weight[:, k] * tap
    assert isinstance(y, Tensor)  # there is at least one tap
    return F.silu(y) if activation == "silu" else y
