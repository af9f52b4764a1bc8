"""Steps of mixers as their formulas, for R sequences side by side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.mixer_steps import LruWeights, Mamba2Weights, MambaWeights, MixedWeights
from recbole_ssm.ops.position_wise.reference import feed_forward


def mamba2_step(
    hidden: Tensor, window: Tensor, state: Tensor, more_dt: Tensor, w: Mamba2Weights, *, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``h = exp(dt A) h + dt x B^T; out_proj(norm RMS(y silu(z)))`` with ``y = h C + D x`` (Mamba-2, fig. 6)."""
    (H, P, N), E = state.shape[1:], w.norm.shape[0]
    z, xBC, dt = (hidden @ w.in_proj.T).split([E, w.conv_bias.shape[0], H], 1)
    xBC, window = _convolved(window, xBC, w.conv_weight, w.conv_bias)
    x, B, C = xBC.split([E, (xBC.shape[1] - E) // 2, (xBC.shape[1] - E) // 2], 1)
    x, B, C = x.unflatten(1, (H, P)), *(_of_heads(each.unflatten(1, (-1, N)), H) for each in (B, C))
    dt = F.softplus(dt + w.dt_bias + more_dt)
    decay = torch.exp(-dt * torch.exp(w.A_log))
    state = decay[:, :, None, None] * state + (dt[:, :, None] * x)[..., None] * B[:, :, None]
    y = (state * C[:, :, None]).sum(-1) + w.D[:, None] * x
    v = y.flatten(1) * z * torch.sigmoid(z)
    normed = w.norm * v / (v.square().mean(1, keepdim=True) + eps).sqrt()
    return normed @ w.out_proj.T, window, state


def mamba_step(
    hidden: Tensor, window: Tensor, state: Tensor, more_dt: Tensor, w: MambaWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """``h = exp(dt A) h + dt x B; out_proj((h C + D x) silu(z))`` of each channel (arXiv 2312.00752, fig. 3)."""
    N, rank = state.shape[2], w.dt_proj.shape[1]
    x, z = (hidden @ w.in_proj.T).chunk(2, 1)
    x, window = _convolved(window, x, w.conv_weight, w.conv_bias)
    low, B, C = (x @ w.x_proj.T).split([rank, N, N], 1)
    dt = F.softplus(low @ w.dt_proj.T + w.dt_bias + more_dt)
    state = torch.exp(-dt[..., None] * torch.exp(w.A_log)) * state + (dt * x)[..., None] * B[:, None]
    y = (state * C[:, None]).sum(-1) + w.D * x
    return (y * z * torch.sigmoid(z)) @ w.out_proj.T, window, state


def lru_step(hidden: Tensor, state: Tensor, elapsed: Tensor, w: LruWeights) -> tuple[Tensor, Tensor]:
    """``h = decay h + gamma B x; Re(C h)`` (arXiv 2303.06349), with ``|decay| = exp(-nu elapsed)``."""
    real, imaginary = (hidden @ w.in_proj.T + w.in_bias).chunk(2, 1)
    angle = torch.exp(w.theta_log).expand_as(elapsed)
    decay = torch.polar(torch.exp(-torch.exp(w.nu_log) * elapsed), angle)
    state = decay * state + torch.exp(w.gamma_log) * torch.complex(real, imaginary)
    return torch.cat([state.real, state.imag], 1) @ w.out_proj.T + w.out_bias, state


def mixed_step(mixed: Tensor, hidden: Tensor, w: MixedWeights, *, eps: float, eps_of_network: float) -> Tensor:
    """``feed_forward(LayerNorm(mixed + hidden))``."""
    x = mixed + hidden
    centred = x - x.mean(1, keepdim=True)
    normed = w.norm * centred / (centred.square().mean(1, keepdim=True) + eps).sqrt() + w.norm_bias
    return feed_forward(normed, *w[2:], eps=eps_of_network)


def _convolved(window: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """SiLU of the convolution, (R, C), and the next window."""
    window = torch.cat([window, x[..., None]], -1)
    y = (window * weight).sum(-1) + bias
    return y * torch.sigmoid(y), window[..., 1:]


def _of_heads(groups: Tensor, heads: int) -> Tensor:
    """(R, G, N) to (R, H, N)."""
    return groups.repeat_interleave(heads // groups.shape[1], 1)
