"""The LRU mixer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from recbole_ssm.ops import linear_recurrence
from recbole_ssm.ops.packing import at, last_tokens
from recbole_ssm.ops.precision import without_half


class LRU(nn.Module):
    """Linear recurrent unit (arXiv 2303.06349), as LRURec uses it: ``Re(C h)``, ``h = decay h + gamma B x``, complex.

    Args:
        d_model: model width.
        expand: states over ``d_model``.
        r_min: least magnitude of an initial decay.
        r_max: greatest magnitude.
    """

    def __init__(self, d_model: int, expand: int = 2, r_min: float = 0.8, r_max: float = 0.99):
        super().__init__()
        size = expand * d_model
        magnitude = torch.sqrt(torch.rand(size) * (r_max**2 - r_min**2) + r_min**2)  # even over the ring
        self.nu_log = nn.Parameter(torch.log(-torch.log(magnitude)))
        self.theta_log = nn.Parameter(torch.log(2 * math.pi * torch.rand(size).clamp(min=1e-6)))
        self.gamma_log = nn.Parameter(torch.log(torch.sqrt(1 - magnitude**2)))
        self.in_proj = nn.Linear(d_model, 2 * size)
        self.out_proj = nn.Linear(2 * size, d_model)

    def forward(self, hidden: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None) -> Tensor:
        """As :meth:`recbole_ssm.layers.Mamba2.forward`."""
        return self._output(linear_recurrence(*self._inputs(hidden), cu_seqlens), readout)

    def prefill(self, hidden: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`recbole_ssm.layers.Mamba2.prefill`."""
        h = linear_recurrence(*self._inputs(hidden), cu_seqlens)
        return self._output(h), h[last_tokens(cu_seqlens)]

    def step(self, hidden: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`recbole_ssm.layers.Mamba2.step`; the state is h (R, expand * d_model), complex (of two float32)."""
        h, decay = self._inputs(hidden)
        if state is not None:
            h = h + decay * state
        return self._output(h), h

    def _inputs(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """``gamma B x`` (R, size) and decay (size,), complex."""
        nu, theta, gamma = (torch.exp(without_half(log)) for log in (self.nu_log, self.theta_log, self.gamma_log))
        decay = torch.polar(torch.exp(-nu), theta)
        inputs = self.in_proj(hidden).to(gamma.dtype).unflatten(-1, (2, -1))  # float32 under autocast too
        real, imaginary = (inputs * gamma).unbind(-2)
        return torch.complex(real, imaginary), decay

    def _output(self, h: Tensor, readout: Tensor | None = None) -> Tensor:
        """``Re(C h)`` of all tokens, or of those of ``readout``."""
        parts = torch.cat([at(readout, h.real), at(readout, h.imag)], -1)
        return self.out_proj(parts.to(self.out_proj.weight.dtype))
