"""Short depthwise convolutions over a packed stream, with SiLU: the local mixing in front of every scan."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops import mamba_ssm, native
from recbole_ssm.ops.backend import choose
from recbole_ssm.ops.packing import check_shapes, flip_borders, positions
from recbole_ssm.ops.precision import in_float32, without_half


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
        return _convolve(x, weight.flip(1), bias, cu_seqlens, weight.shape[1] - 1, activation)
    return _convolve(x, weight, bias, cu_seqlens, 0, activation)


def causal_conv1d_window(x: Tensor, cu_seqlens: Tensor, taps: int) -> Tensor:
    """The window with which :func:`causal_conv1d_step` goes on after the last token of each sequence.

    Args:
        x: (T, C) inputs of the convolution.
        cu_seqlens: (S + 1,) int, borders of the sequences.
        taps: the width W of the convolution.

    Returns:
        (S, C, W - 1), zeros before the start of a sequence.
    """
    tokens = cu_seqlens[1:, None].long() - torch.arange(taps - 1, 0, -1, device=x.device)
    return (x[tokens.clamp(min=0)] * (tokens >= cu_seqlens[:-1, None])[..., None]).mT


def causal_conv1d_step(
    window: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *, activation: str | None = "silu"
) -> tuple[Tensor, Tensor]:
    """The next token of R sequences: what :func:`causal_conv1d` would give after all tokens before it.

    Args:
        window: (R, C, W - 1), the inputs before, oldest first; zeros before the start of a sequence.
        x: (R, C) inputs.
        weight: (C, W); ``weight[:, -1]`` meets ``x``.
        bias: (C,) or None.
        activation: ``"silu"`` or None.

    Returns:
        y (R, C) and the window (R, C, W - 1) after this token.
    """
    _check_activation(activation)
    window = torch.cat([window, x[..., None]], -1)
    y = (window * weight).sum(-1)
    y = y if bias is None else y + bias
    return (F.silu(y) if activation == "silu" else y), window[..., 1:]


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


@in_float32("conv1d")
def _convolve(x, weight, bias, cu_seqlens, ahead, activation):
    """``y[t] = bias + sum_k weight[:, k] x[t + k - W + 1 + ahead]`` over the taps within t's sequence."""
    _check_activation(activation)
    T, C = x.shape
    check_shapes(cu_seqlens, T, weight=(weight, (C, weight.shape[-1])), bias=(bias, (C,)))
    backend = choose("conv1d", x, weight, bias)
    if backend == "mamba_ssm" and mamba_ssm.takes_conv1d(weight, ahead):
        return mamba_ssm.conv1d(x, weight, bias, cu_seqlens, ahead, activation)
    if backend == "native" and weight.shape[1] <= native.MOST_TAPS:
        return native.conv1d(x, weight.T, bias, cu_seqlens, ahead=ahead, silu=activation == "silu")
    x, weight, bias = map(without_half, (x, weight, bias))  # which the kernels that were chosen have not taken
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


def _check_activation(activation):
    if activation not in ("silu", None):
        raise ValueError(f"activation is 'silu' or None, not {activation!r}")
