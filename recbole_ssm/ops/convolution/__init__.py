"""Short depthwise convolutions over a packed stream, with SiLU: the local mixing in front of every scan."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends import compute_in_float32
from recbole_ssm.ops.convolution.step import causal_conv1d_step, causal_conv1d_window, check_activation
from recbole_ssm.ops.packing import check_shapes

__all__ = [
    "causal_conv1d",
    "causal_conv1d_step",
    "causal_conv1d_window",
    "centred_conv1d",
    "depthwise_conv1d",
]


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

    As ``causal_conv1d_fn`` of the causal-conv1d package, over a packed stream. No tap crosses a border. Half
    precision is computed in float32, and the result returned in the type of x.

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
        return depthwise_conv1d(x, weight.flip(1), bias, cu_seqlens, ahead=weight.shape[1] - 1, activation=activation)
    return depthwise_conv1d(x, weight, bias, cu_seqlens, ahead=0, activation=activation)


def centred_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, activation: str | None = "silu"
) -> Tensor:
    """Centred depthwise convolution of odd width: ``W // 2`` tokens to either side (Hydra, arXiv 2407.09941).

    Args:
        x: as in :func:`causal_conv1d`.
        weight: (C, W); ``weight[:, W // 2]`` meets the token itself.
        bias: as in :func:`causal_conv1d`.
        cu_seqlens: as in :func:`causal_conv1d`.
        activation: as in :func:`causal_conv1d`.

    Returns:
        (T, C).

    Raises:
        ValueError: the width is even, so that there is no centre.
    """
    width = weight.shape[1]
    if width % 2 == 0:
        raise ValueError(f"a centred convolution needs an odd width, but weight has width {width}")
    return depthwise_conv1d(x, weight, bias, cu_seqlens, ahead=width // 2, activation=activation)


def depthwise_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, ahead: int, activation: str | None
) -> Tensor:
    """``y[t] = bias + sum_k weight[:, k] x[t + k - W + 1 + ahead]`` over the taps within t's sequence, and SiLU of it.

    Args:
        x: as in :func:`causal_conv1d`.
        weight: (C, W).
        bias: as in :func:`causal_conv1d`.
        cu_seqlens: as in :func:`causal_conv1d`.
        ahead: how many tokens after its own the last tap meets.
        activation: as in :func:`causal_conv1d`.

    Returns:
        (T, C).
    """
    check_activation(activation)
    T, C = x.shape
    check_shapes(cu_seqlens, T, weight=(weight, (C, weight.shape[-1])), bias=(bias, (C,)))
    return compute_in_float32("conv1d", x, weight, bias, cu_seqlens, ahead=ahead, activation=activation)
