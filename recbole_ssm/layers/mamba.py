"""The Mamba mixer (Mamba-1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_ssm.layers.initialisation import inverse_softplus_dt
from recbole_ssm.layers.stepping import Step, convolved_step
from recbole_ssm.layers.time_gaps import gap_weight, step_size
from recbole_ssm.ops import MambaWeights, causal_conv1d, causal_conv1d_window, selective_scan
from recbole_ssm.ops.backends import bound
from recbole_ssm.ops.packing import at


class Mamba(nn.Module):
    """Selective state space mixer (arXiv 2312.00752, figure 3); weights are laid out as in ``mamba_ssm.Mamba``.

    ``x, z = in_proj(u);  x = silu(conv1d(x));  dt, B, C = x_proj(x);  dt = softplus(dt_proj(dt));  A = -exp(A_log)``

    ``h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t];  y[t] = h[t] C[t] + D x[t];  out_proj(y silu(z))``

    Args:
        d_model: model width.
        d_state: states N of each channel.
        d_conv: width of the causal convolution.
        expand: ``d_inner = expand * d_model``.
        time_gaps: how many numbers of the gap before each token scale its dt, with weights of each channel.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2, time_gaps: int = 0):
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state = d_state
        self.dt_rank = math.ceil(d_model / 16)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, d_conv, groups=self.d_inner)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        self.dt_proj.bias = nn.Parameter(inverse_softplus_dt(self.d_inner))
        setattr(self.dt_proj.bias, "_no_reinit", True)  # noqa: B010  (as mamba_ssm marks it)
        self.gap_weight = gap_weight(time_gaps, self.d_inner)
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, *, gaps: Tensor | None = None
    ) -> Tensor:
        """(T, d_model) to (T, d_model), within the sequences that ``cu_seqlens`` (S + 1,) marks.

        With ``readout`` (R,) int64 only the outputs of those tokens are computed: (R, d_model). ``gaps`` (T, time_gaps)
        are :class:`recbole_ssm.layers.TimeGaps`'s; None for none.
        """
        x, z = self.in_proj(hidden).chunk(2, dim=-1)
        x = causal_conv1d(x, self.conv1d.weight.squeeze(1), self.conv1d.bias, cu_seqlens)
        u, dt, A, B, C = self._selected(x, gaps)
        y = selective_scan(u, dt, A, B, C, cu_seqlens, D=self.D)
        return self.out_proj(at(readout, y) * F.silu(at(readout, z)))

    def prefill(
        self, hidden: Tensor, cu_seqlens: Tensor, *, gaps: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As :meth:`recbole_ssm.layers.Mamba2.prefill`."""
        x, z = self.in_proj(hidden).chunk(2, dim=-1)
        weight = self.conv1d.weight.squeeze(1)
        window = causal_conv1d_window(x, cu_seqlens, weight.shape[1])
        x = causal_conv1d(x, weight, self.conv1d.bias, cu_seqlens)
        u, dt, A, B, C = self._selected(x, gaps)
        y, states = selective_scan(u, dt, A, B, C, cu_seqlens, D=self.D, return_final_state=True)
        return self.out_proj(y * F.silu(z)), (window, states)

    def step(
        self, hidden: Tensor, state: tuple[Tensor, Tensor] | None = None, *, gaps: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What :meth:`forward` would give for the next token of R sequences.

        Args:
            hidden: (R, d_model).
            state: after the tokens before: inputs of the convolution (R, d_inner, d_conv - 1) and states
                (R, d_inner, d_state); None at the start.
            gaps: (R, time_gaps) of the gap before each token.

        Returns:
            (R, d_model), and the state after this token.
        """
        return self.stepper()(hidden, state, gaps=gaps)

    def stepper(self) -> Step:
        """:meth:`step` with the weights as they are now, for many calls."""
        of_window, of_state = (self.d_inner, self.conv1d.kernel_size[0] - 1), (self.d_inner, self.d_state)
        return convolved_step(bound("mamba_step", self._weights()), of_window, of_state, self.gap_weight)

    def _weights(self) -> MambaWeights:
        conv_bias = self.conv1d.bias
        assert conv_bias is not None
        return MambaWeights(
            self.in_proj.weight,
            self.conv1d.weight.squeeze(1),
            conv_bias,
            self.x_proj.weight,
            self.dt_proj.weight,
            self.dt_proj.bias,
            self.A_log,
            self.D,
            self.out_proj.weight,
        )

    def _selected(self, x: Tensor, gaps: Tensor | None) -> tuple[Tensor, ...]:
        """What the scan takes of tokens (R, d_inner): x, dt, A, B, C."""
        dt, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        return x, step_size(self.dt_proj(dt), gaps, self.gap_weight), -torch.exp(self.A_log), B, C
