"""The Mamba-2 mixer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_ssm.layers.initialisation import inverse_softplus_dt
from recbole_ssm.layers.norm import GatedRMSNorm
from recbole_ssm.layers.stepping import Step, convolved_step
from recbole_ssm.layers.time_gaps import gap_weight, gaps_after, step_size
from recbole_ssm.ops import Mamba2Weights, causal_conv1d, causal_conv1d_window, ssd
from recbole_ssm.ops.backends import bound
from recbole_ssm.ops.packing import at


class Mamba2(nn.Module):
    """State-space dual mixer (arXiv 2405.21060, figure 6); weights are laid out as in ``mamba_ssm.Mamba2``.

    ``z, xBC, dt = in_proj(u);  x, B, C = silu(conv1d(xBC));  dt = softplus(dt + dt_bias);  A = -exp(A_log)``

    ``h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t]^T;  y[t] = h[t] C[t] + D x[t];  out_proj(RMSNorm(y silu(z)))``

    Args:
        d_model: model width.
        d_state: state size N.
        d_conv: width of the causal convolution.
        expand: ``d_inner = expand * d_model``.
        headdim: width P of a head; there are ``d_inner / headdim`` of them.
        ngroups: groups G of heads that share B and C.
        time_gaps: how many numbers of the gap before each token scale its dt, with weights of each head.

    Raises:
        ValueError: ``headdim`` does not divide ``d_inner``, or the number of heads is no multiple of ``ngroups``.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 128,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        ngroups: int = 1,
        time_gaps: int = 0,
    ):
        super().__init__()
        self.d_inner = expand * d_model
        self.d_state, self.headdim, self.ngroups = d_state, headdim, ngroups
        self.nheads, rest = divmod(self.d_inner, headdim)
        if rest or self.nheads % ngroups:
            raise ValueError(
                f"headdim {headdim} must divide expand * d_model = {self.d_inner} into a multiple of {ngroups} heads"
            )
        d_conv_channels = self.d_inner + 2 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + d_conv_channels + self.nheads, bias=False)
        self.conv1d = nn.Conv1d(d_conv_channels, d_conv_channels, d_conv, groups=d_conv_channels)
        self.dt_bias = nn.Parameter(inverse_softplus_dt(self.nheads))
        self.gap_weight = gap_weight(time_gaps, self.nheads)
        self.A_log = nn.Parameter(torch.empty(self.nheads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.nheads))
        self.norm = GatedRMSNorm(self.d_inner)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(
        self, hidden: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, *, gaps: Tensor | None = None
    ) -> Tensor:
        """(T, d_model) to (T, d_model), within the sequences that ``cu_seqlens`` (S + 1,) marks.

        With ``readout`` (R,) int64 only the outputs of those tokens are computed: (R, d_model). ``gaps`` (T, time_gaps)
        are :class:`recbole_ssm.layers.TimeGaps`'s; None for none.
        """
        return self.mix(self.in_proj(hidden), cu_seqlens, readout, gaps=gaps)

    def mix(
        self,
        projected: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None = None,
        *,
        reverse: bool = False,
        gaps: Tensor | None = None,
    ) -> Tensor:
        """All that follows the input projection, which both directions of a bidirectional model can share.

        Args:
            projected: ``in_proj(hidden)``, (T, 2 * d_inner + 2 * ngroups * d_state + nheads).
            cu_seqlens: (S + 1,) int, borders of the sequences.
            readout: (R,) int64, the tokens whose outputs are wanted; None for all of them.
            reverse: read each sequence from its end: output t has seen token t and those after it.
            gaps: (T, time_gaps) of the gap before each token; in reverse each takes the one after it.

        Returns:
            (T, d_model), or (R, d_model) with ``readout``.
        """
        z, xBC, dt = self._split(projected)
        xBC = causal_conv1d(xBC, self.conv1d.weight.squeeze(1), self.conv1d.bias, cu_seqlens, reverse=reverse)
        if reverse and gaps is not None:
            gaps = gaps_after(gaps, cu_seqlens)
        x, dt, A, B, C = self._selected(xBC, dt, gaps)
        y = ssd(x, dt, A, B, C, cu_seqlens, D=self.D, reverse=reverse)
        return self.out_proj(self.norm(at(readout, y.flatten(-2)), at(readout, z)))

    def prefill(
        self, hidden: Tensor, cu_seqlens: Tensor, *, gaps: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """:meth:`forward` of all tokens, and the state with which :meth:`step` goes on after each sequence."""
        z, xBC, dt = self._split(self.in_proj(hidden))
        weight = self.conv1d.weight.squeeze(1)
        window = causal_conv1d_window(xBC, cu_seqlens, weight.shape[1])
        xBC = causal_conv1d(xBC, weight, self.conv1d.bias, cu_seqlens)
        x, dt, A, B, C = self._selected(xBC, dt, gaps)
        y, states = ssd(x, dt, A, B, C, cu_seqlens, D=self.D, return_final_state=True)
        return self.out_proj(self.norm(y.flatten(-2), z)), (window, states)

    def step(
        self, hidden: Tensor, state: tuple[Tensor, Tensor] | None = None, *, gaps: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What :meth:`forward` would give for the next token of R sequences.

        Args:
            hidden: (R, d_model).
            state: after the tokens before: inputs of the convolution (R, d_inner + 2 * ngroups * d_state, d_conv - 1)
                and states (R, nheads, headdim, d_state); None at the start.
            gaps: (R, time_gaps) of the gap before each token.

        Returns:
            (R, d_model), and the state after this token.
        """
        return self.stepper()(hidden, state, gaps=gaps)

    def stepper(self) -> Step:
        """:meth:`step` with the weights as they are now, for many calls."""
        op = bound("mamba2_step", self._weights(), eps=self.norm.eps)
        of_window = self.conv1d.in_channels, self.conv1d.kernel_size[0] - 1
        return convolved_step(op, of_window, (self.nheads, self.headdim, self.d_state), self.gap_weight)

    def _weights(self) -> Mamba2Weights:
        conv_bias = self.conv1d.bias
        assert conv_bias is not None
        return Mamba2Weights(
            self.in_proj.weight,
            self.conv1d.weight.squeeze(1),
            conv_bias,
            self.dt_bias,
            self.A_log,
            self.D,
            self.norm.weight,
            self.out_proj.weight,
        )

    def _split(self, projected: Tensor) -> tuple[Tensor, ...]:
        """Gate z, inputs of the convolution, and step sizes."""
        return projected.split([self.d_inner, self.d_inner + 2 * self.ngroups * self.d_state, self.nheads], dim=-1)

    def _selected(self, xBC: Tensor, dt: Tensor, gaps: Tensor | None) -> tuple[Tensor, ...]:
        """What the recurrence takes of tokens: x (R, H, P), dt (R, H), A (H,), B and C (R, G, N)."""
        G, N = self.ngroups, self.d_state
        x, B, C = xBC.split([self.d_inner, G * N, G * N], dim=-1)
        return (
            x.unflatten(-1, (self.nheads, self.headdim)),
            step_size(dt + self.dt_bias, gaps, self.gap_weight),
            -torch.exp(self.A_log),
            B.unflatten(-1, (G, N)),
            C.unflatten(-1, (G, N)),
        )
