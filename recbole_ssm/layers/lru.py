"""The LRU mixer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from recbole_ssm.layers.stepping import Step
from recbole_ssm.layers.time_gaps import gap_weight, step_size
from recbole_ssm.ops import LruWeights, linear_recurrence, selective_scan
from recbole_ssm.ops.backends import bound
from recbole_ssm.ops.packing import at, last_tokens, positions
from recbole_ssm.ops.precision import without_half

_SOFTPLUS_1 = math.log(math.e - 1)
"""Its softplus is 1."""


class LRU(nn.Module):
    """Linear recurrent unit (arXiv 2303.06349), as LRURec uses it: ``Re(C h)``, ``h = decay h + gamma B x``, complex.

    Args:
        d_model: model width.
        expand: states over ``d_model``.
        r_min: least magnitude of an initial decay.
        r_max: greatest magnitude.
        time_gaps: how many numbers of the gap before each token scale how much is forgotten of all before it, with
            weights of each state.
    """

    def __init__(self, d_model: int, expand: int = 2, r_min: float = 0.8, r_max: float = 0.99, time_gaps: int = 0):
        super().__init__()
        size = expand * d_model
        magnitude = torch.sqrt(torch.rand(size) * (r_max**2 - r_min**2) + r_min**2)  # even over the ring
        self.nu_log = nn.Parameter(torch.log(-torch.log(magnitude)))
        self.theta_log = nn.Parameter(torch.log(2 * math.pi * torch.rand(size).clamp(min=1e-6)))
        self.gamma_log = nn.Parameter(torch.log(torch.sqrt(1 - magnitude**2)))
        self.gap_weight = gap_weight(time_gaps, size)
        self.in_proj = nn.Linear(d_model, 2 * size)
        self.out_proj = nn.Linear(2 * size, d_model)

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, *, gaps: Tensor | None = None
    ) -> Tensor:
        """As :meth:`recbole_ssm.layers.Mamba2.forward`."""
        return self._output(self._states(hidden, cu_seqlens, gaps), readout)

    def prefill(self, hidden: Tensor, cu_seqlens: Tensor, *, gaps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`recbole_ssm.layers.Mamba2.prefill`."""
        h = self._states(hidden, cu_seqlens, gaps)
        return self._output(h), h[last_tokens(cu_seqlens)]

    def step(self, hidden: Tensor, state: Tensor | None = None, *, gaps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As :meth:`recbole_ssm.layers.Mamba2.step`; the state is h (R, expand * d_model), complex (of two float32)."""
        return self.stepper()(hidden, state, gaps=gaps)

    def stepper(self) -> Step:
        """:meth:`step` with the weights as they are now, for many calls."""
        op, E = bound("lru_step", self._weights()), len(self.nu_log)
        dtype = without_half(self.nu_log).dtype.to_complex()

        def step(hidden: Tensor, state: Any = None, *, gaps: Tensor | None = None) -> tuple[Tensor, Any]:
            if state is None:
                state = hidden.new_zeros(len(hidden), E, dtype=dtype)
            return op(hidden, state, None if gaps is None else self._elapsed(gaps))

        return step

    def _weights(self) -> LruWeights:
        return LruWeights(
            self.nu_log,
            self.theta_log,
            self.gamma_log,
            self.in_proj.weight,
            self.in_proj.bias,
            self.out_proj.weight,
            self.out_proj.bias,
        )

    def _states(self, hidden: Tensor, cu_seqlens: Tensor, gaps: Tensor | None) -> Tensor:
        """``h`` of all tokens, (T, size) complex.

        With gaps the magnitude of a decay depends on the token, ``exp(-nu elapsed)``, and its angle does not. In a
        frame that turns by this angle from token to token the decay is real, and h is a scan of two real parts.
        """
        inputs, decay = self._inputs(hidden)
        if gaps is None:
            return linear_recurrence(inputs, decay, cu_seqlens)
        nu, theta = self._rates()
        elapsed = self._elapsed(gaps)
        turned = positions(cu_seqlens, hidden.shape[0])[:, None] * theta.double()
        kind = theta.dtype
        frame = torch.complex(turned.cos().to(kind), turned.sin().to(kind))
        parts = torch.view_as_real(inputs * frame.conj() / elapsed).flatten(1)
        steps, rates = elapsed.repeat_interleave(2, dim=1), -nu.repeat_interleave(2)[:, None]
        ones = parts.new_ones(parts.shape[0], 1)
        h = selective_scan(parts, steps, rates, ones, ones, cu_seqlens)
        return torch.view_as_complex(h.unflatten(1, (-1, 2)).contiguous()) * frame

    def _elapsed(self, gaps: Tensor) -> Tensor:
        """The step of each state, (R, size): 1 where the weights of the gaps are 0."""
        return step_size(gaps.new_tensor(_SOFTPLUS_1), gaps, self.gap_weight).to(self.nu_log.dtype)

    def _rates(self) -> tuple[Tensor, Tensor]:
        """Rate and angle of the decays, (size,) each."""
        return torch.exp(without_half(self.nu_log)), torch.exp(without_half(self.theta_log))

    def _inputs(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """``gamma B x`` (R, size) and decay (size,), complex."""
        nu, theta = self._rates()
        gamma = torch.exp(without_half(self.gamma_log))
        decay = torch.polar(torch.exp(-nu), theta)
        inputs = self.in_proj(hidden).to(gamma.dtype).unflatten(-1, (2, -1))  # float32 under autocast too
        real, imaginary = (inputs * gamma).unbind(-2)
        return torch.complex(real, imaginary), decay

    def _output(self, h: Tensor, readout: Tensor | None = None) -> Tensor:
        """``Re(C h)`` of all tokens, or of those of ``readout``."""
        parts = torch.cat([at(readout, h.real), at(readout, h.imag)], -1)
        return self.out_proj(parts.to(self.out_proj.weight.dtype))
