"""One token more for each of R sequences, through the parts of a layer: what a service computes for each click.

A mixer is many small ops, which take less time than it takes to call them; so a step of one is an op of its own. With
weights that are the same in many calls, :func:`recbole_ssm.ops.backends.bound` makes it quicker still.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from recbole_ssm.ops.backends import compute
from recbole_ssm.ops.packing import check_each

__all__ = [
    "LruWeights",
    "Mamba2Weights",
    "MambaWeights",
    "MixedWeights",
    "lru_step",
    "mamba2_step",
    "mamba_step",
    "mixed_step",
]


class Mamba2Weights(NamedTuple):
    """Of :class:`recbole_ssm.layers.Mamba2`: H heads of width P, G groups, N states; E = H P, C = E + 2 G N."""

    in_proj: Tensor
    """(E + C + H, d)."""
    conv_weight: Tensor
    """(C, W)."""
    conv_bias: Tensor
    """(C,)."""
    dt_bias: Tensor
    """(H,)."""
    A_log: Tensor
    """(H,)."""
    D: Tensor
    """(H,)."""
    norm: Tensor
    """(E,)."""
    out_proj: Tensor
    """(d, E)."""


class MambaWeights(NamedTuple):
    """Of :class:`recbole_ssm.layers.Mamba`, with E channels of N states each, and step sizes of rank r."""

    in_proj: Tensor
    """(2 E, d)."""
    conv_weight: Tensor
    """(E, W)."""
    conv_bias: Tensor
    """(E,)."""
    x_proj: Tensor
    """(r + 2 N, E)."""
    dt_proj: Tensor
    """(E, r)."""
    dt_bias: Tensor
    """(E,)."""
    A_log: Tensor
    """(E, N)."""
    D: Tensor
    """(E,)."""
    out_proj: Tensor
    """(d, E)."""


class LruWeights(NamedTuple):
    """Of :class:`recbole_ssm.layers.LRU`, with E states."""

    nu_log: Tensor
    """(E,)."""
    theta_log: Tensor
    """(E,)."""
    gamma_log: Tensor
    """(E,)."""
    in_proj: Tensor
    """(2 E, d)."""
    in_bias: Tensor
    """(2 E,)."""
    out_proj: Tensor
    """(d, 2 E)."""
    out_bias: Tensor
    """(d,)."""


class MixedWeights(NamedTuple):
    """Of what follows a mixer: a LayerNorm, and a feed-forward network, see :func:`recbole_ssm.ops.feed_forward`."""

    norm: Tensor
    """(d,)."""
    norm_bias: Tensor
    """(d,)."""
    W1: Tensor
    """(E, d)."""
    b1: Tensor
    """(E,)."""
    W2: Tensor
    """(d, E)."""
    b2: Tensor
    """(d,)."""
    weight: Tensor
    """(d,), of the network's norm."""
    bias: Tensor
    """(d,)."""


def mamba2_step(
    hidden: Tensor, window: Tensor, state: Tensor, more_dt: Tensor | None, weights: Mamba2Weights, *, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What the Mamba-2 mixer gives for the next token of R sequences; see :class:`recbole_ssm.layers.Mamba2`.

    Args:
        hidden: (R, d).
        window: (R, C, W - 1) inputs of the convolution before, the oldest first; zeros before the start of a sequence.
        state: (R, H, P, N) after the token before; zeros at the start.
        more_dt: (R, H), added to step sizes before their softplus; or None.
        weights: of the mixer.
        eps: of its norm.

    Returns:
        (R, d), and window and state after this token.
    """
    (R, d), (H, P, N) = hidden.shape, state.shape[1:]
    C, W = weights.conv_weight.shape
    check_each(
        window=(window, (R, C, W - 1)),
        state=(state, (R, H, P, N)),
        more_dt=(more_dt, (R, H)),
        in_proj=(weights.in_proj, (H * P + C + H, d)),
        out_proj=(weights.out_proj, (d, H * P)),
    )
    return compute("mamba2_step", hidden, window, state, more_dt, weights, eps=eps)


def mamba_step(
    hidden: Tensor, window: Tensor, state: Tensor, more_dt: Tensor | None, weights: MambaWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """What the Mamba mixer gives for the next token of R sequences; see :class:`recbole_ssm.layers.Mamba`.

    Args:
        hidden: (R, d).
        window: (R, E, W - 1), as for :func:`mamba2_step`.
        state: (R, E, N) after the token before; zeros at the start.
        more_dt: (R, E), added to step sizes before their softplus; or None.
        weights: of the mixer.

    Returns:
        (R, d), and window and state after this token.
    """
    (R, d), (E, N), r = hidden.shape, state.shape[1:], weights.dt_proj.shape[1]
    check_each(
        window=(window, (R, E, weights.conv_weight.shape[1] - 1)),
        state=(state, (R, E, N)),
        more_dt=(more_dt, (R, E)),
        in_proj=(weights.in_proj, (2 * E, d)),
        x_proj=(weights.x_proj, (r + 2 * N, E)),
        out_proj=(weights.out_proj, (d, E)),
    )
    return compute("mamba_step", hidden, window, state, more_dt, weights)


def lru_step(hidden: Tensor, state: Tensor, elapsed: Tensor | None, weights: LruWeights) -> tuple[Tensor, Tensor]:
    """What the LRU mixer gives for the next token of R sequences; see :class:`recbole_ssm.layers.LRU`.

    Args:
        hidden: (R, d).
        state: (R, E) complex, after the token before; zeros at the start.
        elapsed: (R, E), times the rate at which a state decays; None for ones.
        weights: of the mixer.

    Returns:
        (R, d), and the state after this token.
    """
    (R, d), E = hidden.shape, state.shape[1]
    check_each(
        state=(state, (R, E)),
        elapsed=(elapsed, (R, E)),
        in_proj=(weights.in_proj, (2 * E, d)),
        out_proj=(weights.out_proj, (d, 2 * E)),
    )
    return compute("lru_step", hidden, state, elapsed, weights)


def mixed_step(
    mixed: Tensor, hidden: Tensor | None, weights: MixedWeights, *, eps: float, eps_of_network: float
) -> Tensor:
    """``feed_forward(LayerNorm(mixed + hidden))``: what follows a mixer, without dropout.

    Args:
        mixed: (R, d), of the mixer.
        hidden: (R, d), what went into it; None for zeros.
        weights: of norm and network.
        eps: of the norm.
        eps_of_network: of the network's norm.

    Returns:
        (R, d).
    """
    check_each(mixed=(mixed, (len(mixed), len(weights.norm))), hidden=(hidden, mixed.shape))
    return compute("mixed_step", mixed, hidden, weights, eps=eps, eps_of_network=eps_of_network)
