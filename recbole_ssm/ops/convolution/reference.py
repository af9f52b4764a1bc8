"""The depthwise convolution written out, one token after another."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.packing import sequences


def depthwise_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, ahead: int) -> Tensor:
    """``y[t] = bias + sum_k weight[:, k] x[t + k - W + 1 + ahead]`` over the taps within t's sequence; no SiLU."""
    rows = [x[:0]]
    for _, tokens in sequences(cu_seqlens):
        for t in tokens:
            y = torch.zeros_like(x[t]) if bias is None else bias
            for k in range(weight.shape[1]):
                met = t + k - weight.shape[1] + 1 + ahead
                if met in tokens:
                    y = y + weight[:, k] * x[met]
            rows.append(y[None])
    return torch.cat(rows)
