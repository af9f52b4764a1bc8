"""The Hydra mixer: a quasiseparable matrix, read in both directions at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbole_ssm.layers.initialisation import inverse_softplus_dt
from recbole_ssm.layers.norm import GatedRMSNorm
from recbole_ssm.layers.time_gaps import gap_weight, gaps_after, step_size
from recbole_ssm.ops import causal_conv1d, centred_conv1d, ssd
from recbole_ssm.ops.packing import at, positions, prefixes


class Hydra(nn.Module):
    """Bidirectional state space mixer (arXiv 2407.09941, section 3).

    ``y = shift(SSD_f(x)) + shift'(SSD_b(x)) + x (x W_D^T + D)``: strictly lower, strictly upper, and a diagonal that
    depends on the data. The directions have B, C and dt of their own and share x, A and the bias of dt.

    Args:
        d_model: model width.
        d_state: state size N.
        d_conv: width of the centred convolution; odd.
        expand: ``d_inner = expand * d_model``.
        headdim: width P of a head.
        ngroups: groups G of heads that share B and C.
        time_gaps: how many numbers of a gap scale dt, with weights of each direction and head: the gap before a token
            reading forward, and the one after it reading backward. An output has not read the gaps beside its own
            token, because the scans are shifted.

    Raises:
        ValueError: as in :class:`Mamba2`, or ``d_conv`` is even.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        d_conv: int = 7,
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
        if d_conv % 2 == 0:
            raise ValueError(f"d_conv must be odd, since Hydra's convolution is centred, but is {d_conv}")
        d_conv_channels = self.d_inner + 4 * ngroups * d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + d_conv_channels + 2 * self.nheads, bias=False)
        self.conv1d = nn.Conv1d(d_conv_channels, d_conv_channels, d_conv, groups=d_conv_channels)
        self.dt_bias = nn.Parameter(inverse_softplus_dt(self.nheads))
        self.gap_weight = gap_weight(time_gaps, 2 * self.nheads)
        self.A_log = nn.Parameter(torch.zeros(self.nheads))
        self.D = nn.Parameter(torch.ones(self.nheads))
        self.fc_D = nn.Linear(self.d_inner, self.nheads, bias=False)
        self.norm = GatedRMSNorm(self.d_inner, norm_before_gate=True)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(
        self,
        hidden: Tensor,
        cu_seqlens: Tensor,
        readout: Tensor | None = None,
        *,
        cut: Tensor | None = None,
        gaps: Tensor | None = None,
    ) -> Tensor:
        """As :meth:`recbole_ssm.layers.Mamba2.forward`.

        With ``cut`` (S,) the first ``cut[s]`` tokens of sequence s are mixed in both directions. A later token is mixed
        with those before it alone: lower triangle and diagonal, after the half of the convolution that looks back.
        """
        G, N, H, P = self.ngroups, self.d_state, self.nheads, self.headdim
        z, xBC, dt = self.in_proj(hidden).split([self.d_inner, self.d_inner + 4 * G * N, 2 * H], dim=-1)
        taps, bias = self.conv1d.weight.squeeze(1), self.conv1d.bias
        prefix, both_ways = (None, cu_seqlens) if cut is None else prefixes(cu_seqlens, cut)
        convolved = centred_conv1d(at(prefix, xBC), taps, bias, both_ways)
        if prefix is not None:
            looking_back = causal_conv1d(xBC, taps[:, : taps.shape[1] // 2 + 1], bias, cu_seqlens)
            convolved = looking_back.index_copy(0, prefix, convolved)
        x, BC_forward, BC_backward = convolved.split([self.d_inner, 2 * G * N, 2 * G * N], dim=-1)
        dt_forward, dt_backward = self._steps(dt, gaps, prefix, both_ways)
        A = -torch.exp(self.A_log)
        heads = x.unflatten(-1, (H, P))

        def scan(x: Tensor, dt: Tensor, BC: Tensor, borders: Tensor, reverse: bool) -> Tensor:
            """The output of the scan one token before, in the order of reading; zero at the first token."""
            B, C = BC.unflatten(-1, (2, G, N)).unbind(-3)
            begins = positions(borders, x.shape[0]) == 0
            first = begins.roll(-1) if reverse else begins
            y = ssd(x, dt, A, B, C, borders, reverse=reverse).roll(-1 if reverse else 1, 0)
            return y.masked_fill(first[:, None, None], 0.0)

        lower = scan(heads, dt_forward, BC_forward, cu_seqlens, reverse=False)
        upper = scan(at(prefix, heads), dt_backward, at(prefix, BC_backward), both_ways, reverse=True)
        y = lower + upper if prefix is None else lower.index_add(0, prefix, upper)
        diagonal = (self.fc_D(at(readout, x)) + self.D)[..., None]
        y = at(readout, y) + at(readout, heads) * diagonal
        return self.out_proj(self.norm(y.flatten(-2), at(readout, z)))

    def _steps(
        self, dt: Tensor, gaps: Tensor | None, prefix: Tensor | None, both_ways: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Step sizes in both directions.

        Args:
            dt: (T, 2 * nheads), what the contents say of them.
            gaps: (T, time_gaps) of the gap before each token.
            prefix: the tokens that are read in both directions; None for all.
            both_ways: borders of these.

        Returns:
            (T, nheads) reading forward, and those of the tokens ``prefix`` reading backward.
        """
        forward, backward = (dt.unflatten(-1, (2, self.nheads)) + self.dt_bias).unbind(-2)
        ahead, back = (None, None) if self.gap_weight is None else self.gap_weight.chunk(2, dim=1)
        after = None if gaps is None else gaps_after(at(prefix, gaps), both_ways)
        return step_size(forward, gaps, ahead), step_size(at(prefix, backward), after, back)
