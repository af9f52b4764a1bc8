"""One step of the causal convolution, for sequences that grow token by token."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.backends.pytorch import mixer_steps


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

    Raises:
        ValueError: the activation is another.
    """
    check_activation(activation)
    return mixer_steps.conv1d_step(window, x, weight, bias, silu=activation == "silu")


def check_activation(activation: str | None) -> None:
    """Raise ValueError unless the activation is ``"silu"`` or None."""
    if activation not in ("silu", None):
        raise ValueError(f"activation is 'silu' or None, not {activation!r}")
