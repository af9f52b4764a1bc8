"""Short depthwise convolutions over a packed stream, with SiLU: the local mixing in front of every scan."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops import native
from recbole_ssm.ops.packing import check_shapes, flip_borders, positions


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    cu_seqlens: Tensor,
    *,
    activation: str | None = "silu",
    reverse: bool = False,
) -> Tensor:
    """Causal depthwise convolution: each token sees itself and the ``W - 1`` tokens before it.

    As ``causal_conv1d_fn`` of the causal-conv1d package, over a packed stream. No tap crosses a border.

    Args:
        x: (T, C) packed tokens.
        weight: (C, W); ``weight[:, -1]`` meets the token itself.
        bias: (C,) or None.
        cu_seqlens: (S + 1,) int, borders of the sequences.
        activation: ``"silu"`` or None.
        reverse: run from the last token of each sequence to its first (each token sees what follows it).

    Returns:
        (T, C).
    """
    if reverse:
        return _convolve(x, weight.flip(1), bias, cu_seqlens, weight.shape[1] - 1, activation)
    return _convolve(x, weight, bias, cu_seqlens, 0, activation)


def centred_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, activation: str | None = "silu"
) -> Tensor:
    """Centred depthwise convolution of odd width: ``W // 2`` tokens to either side (Hydra, arXiv 2407.09941).

    Arguments and result as in :func:`causal_conv1d`.

    Raises:
        ValueError: the width is even, so that there is no centre.
    """
    width = weight.shape[1]
    if width % 2 == 0:
        raise ValueError(f"a centred convolution needs an odd width, but weight has width {width}")
    return _convolve(x, weight, bias, cu_seqlens, width // 2, activation)


def _convolve(x, weight, bias, cu_seqlens, ahead, activation):
    """``y[t] = bias + sum_k weight[:, k] x[t + k - W + 1 + ahead]`` over the taps within t's sequence."""
    if activation not in ("silu", None):
        raise ValueError(f"activation is 'silu' or None, not {activation!r}")
    T, C = x.shape
    check_shapes(cu_seqlens, T, weight=(weight, (C, weight.shape[-1])), bias=(bias, (C,)))
    if native.takes(x, weight, bias) and weight.shape[1] <= 16:
        return native.conv1d(x, weight.T, bias, cu_seqlens, ahead=ahead, silu=activation == "silu")
    before = positions(cu_seqlens, len(x))
    after = positions(flip_borders(cu_seqlens), len(x)).flip(0)
    y = bias if bias is not None else 0.0
    for k, shift in enumerate(range(weight.shape[1] - 1 - ahead, -ahead - 1, -1)):
        tap = x
        if shift > 0:
            tap = F.pad(x, (0, 0, shift, 0))[: len(x)] * (before >= shift)[:, None]
        elif shift < 0:
            tap = F.pad(x, (0, 0, 0, -shift))[-shift:] * (after >= -shift)[:, None]
        y = y + weight[:, k] * tap
    return F.silu(y) if activation == "silu" else y
