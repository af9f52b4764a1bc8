"""Steps of convolutions and scans, and of mixers, which are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.backends.pytorch.layers import feed_forward, gated_norm
from recbole_ssm.ops.precision import without_half

if TYPE_CHECKING:
    from recbole_ssm.ops.mixer_steps import LruWeights, Mamba2Weights, MambaWeights, MixedWeights


def conv1d_step(window: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, *, silu: bool) -> tuple[Tensor, Tensor]:
    """``causal_conv1d_step`` of :mod:`recbole_ssm.ops.convolution`."""
    window = torch.cat([window, x[..., None]], -1)
    y = (window * weight).sum(-1)
    y = y if bias is None else y + bias
    return (F.silu(y) if silu else y), window[..., 1:]


def ssd_step(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The function of :mod:`recbole_ssm.ops.state_space_duality`."""
    (R, H, P), (G, N), dtype = x.shape, B.shape[1:], state.dtype
    decay = torch.exp(dt * A)[..., None, None]
    inputs = (dt[..., None] * x).reshape(R, G, -1, 1).to(dtype)
    state = torch.addcmul((decay * state).reshape(R, G, -1, N), inputs, B[:, :, None].to(dtype))
    y = (state @ C[..., None].to(dtype)).view(R, H, P).to(x.dtype)
    return (y if D is None else torch.addcmul(y, D[:, None].to(x.dtype), x)), state.view(R, H, P, N)


def selective_scan_step(
    state: Tensor, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The function of :mod:`recbole_ssm.ops.selective_state_space`."""
    state = torch.exp(dt[..., None] * A) * state + (dt * u)[..., None] * B[:, None]
    y = (state @ C[..., None].to(state.dtype)).squeeze(-1).to(u.dtype)
    return (y if D is None else y + D * u), state


def mamba2_step(
    hidden: Tensor, window: Tensor, state: Tensor, more_dt: Tensor | None, weights: Mamba2Weights, *, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The op ``mamba2_step``."""
    w, (H, P, N), E = weights, state.shape[1:], len(weights.norm)
    z, xBC, dt = F.linear(hidden, w.in_proj).split([E, len(w.conv_bias), H], dim=-1)
    xBC, window = conv1d_step(window, xBC, w.conv_weight, w.conv_bias, silu=True)
    x, B, C = xBC.split([E, (len(w.conv_bias) - E) // 2, (len(w.conv_bias) - E) // 2], dim=-1)
    x, B, C = x.unflatten(-1, (H, P)), B.unflatten(-1, (-1, N)), C.unflatten(-1, (-1, N))
    y, state = ssd_step(state, x, _step_size(dt + w.dt_bias, more_dt), -torch.exp(w.A_log), B, C, D=w.D)
    normed = gated_norm(y.flatten(-2), z, w.norm, eps=eps, norm_before_gate=False)
    return F.linear(normed, w.out_proj), window, state


def mamba_step(
    hidden: Tensor, window: Tensor, state: Tensor, more_dt: Tensor | None, weights: MambaWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """The op ``mamba_step``."""
    w, N = weights, state.shape[-1]
    x, z = F.linear(hidden, w.in_proj).chunk(2, dim=-1)
    x, window = conv1d_step(window, x, w.conv_weight, w.conv_bias, silu=True)
    low, B, C = F.linear(x, w.x_proj).split([w.dt_proj.shape[1], N, N], dim=-1)
    dt = _step_size(F.linear(low, w.dt_proj, w.dt_bias), more_dt)
    y, state = selective_scan_step(state, x, dt, -torch.exp(w.A_log), B, C, D=w.D)
    return F.linear(y * F.silu(z), w.out_proj), window, state


def lru_step(hidden: Tensor, state: Tensor, elapsed: Tensor | None, weights: LruWeights) -> tuple[Tensor, Tensor]:
    """The op ``lru_step``; the recurrence is in float32 where the weights are in half precision."""
    w = weights
    nu, theta, gamma = (torch.exp(without_half(each)) for each in (w.nu_log, w.theta_log, w.gamma_log))
    inputs = F.linear(hidden, w.in_proj, w.in_bias).to(gamma.dtype).unflatten(-1, (2, -1))
    real, imaginary = (inputs * gamma).unbind(-2)
    rate = nu if elapsed is None else nu * elapsed
    state = torch.complex(real, imaginary) + torch.polar(torch.exp(-rate), theta.expand_as(rate)) * state
    parts = torch.cat([state.real, state.imag], -1)
    return F.linear(parts.to(w.out_proj.dtype), w.out_proj, w.out_bias), state


def mixed_step(
    mixed: Tensor, hidden: Tensor | None, weights: MixedWeights, *, eps: float, eps_of_network: float
) -> Tensor:
    """The op ``mixed_step``."""
    x = mixed if hidden is None else mixed + hidden
    normed = F.layer_norm(x, weights.norm.shape, weights.norm, weights.norm_bias, eps)
    return feed_forward(normed, *weights[2:], eps=eps_of_network, dropout=0.0, dropout_after_norm=False, drop=F.dropout)


def _step_size(raw: Tensor, more: Tensor | None) -> Tensor:
    return F.softplus(raw if more is None else raw + more)
