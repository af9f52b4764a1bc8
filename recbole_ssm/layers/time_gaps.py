"""The time between interactions, as numbers by which a recurrence scales its step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_ssm.ops.packing import positions


class TimeGaps(nn.Module):
    """What a recurrence reads of the time before each interaction: ``log(1 + gap / scale)``.

    That real times between items set the step of a recurrence is the idea of TiM4Rec (arXiv 2409.16182) and of SS4Rec
    (arXiv 2502.08132).

    Args:
        scale: a usual gap, in the unit of the times.
    """

    n_features = 1
    """How many numbers there are for each gap."""

    scale: Tensor

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, time: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Features of the gap before each token, which is 0 before the first one of a sequence.

        Args:
            time: (T,) float64. A difference below 0, which an order by rounded times leaves, counts as 0.
            cu_seqlens: (S + 1,) int, borders of the sequences.

        Returns:
            (T, n_features).
        """
        first = positions(cu_seqlens, time.shape[0]) == 0
        return self.of((time - time.roll(1)).masked_fill(first, 0.0))

    def of(self, gap: Tensor) -> Tensor:
        """(T, n_features) of gaps (T,)."""
        return torch.log1p(gap.clamp(min=0) / self.scale).to(self.scale.dtype)[:, None]


def gaps_after(gaps: Tensor, cu_seqlens: Tensor) -> Tensor:
    """What a scan from the end reads: of the gap after each token, which is 0 after the last one of a sequence.

    Args:
        gaps: (T, n_features), from :class:`TimeGaps`.
        cu_seqlens: (S + 1,) int, borders of the sequences.

    Returns:
        (T, n_features).
    """
    last = (positions(cu_seqlens, gaps.shape[0]) == 0).roll(-1)
    return gaps.roll(-1, 0).masked_fill(last[:, None], 0.0)


def gap_weight(n_features: int, *shape: int) -> nn.Parameter | None:
    """The weights (n_features, ...) of gaps in a step size, 0 at first; None where no gap is read."""
    return nn.Parameter(torch.zeros(n_features, *shape)) if n_features else None


def step_size(raw: Tensor, gaps: Tensor | None, weight: Tensor | None) -> Tensor:
    """``softplus(raw + gaps weight)``.

    Args:
        raw: (T, E) the step before the softplus, by the contents.
        gaps: (T, n_features), or None.
        weight: (n_features, E), or None.

    Returns:
        (T, E), positive.
    """
    if gaps is not None and weight is not None:
        raw = raw + gaps @ weight
    return F.softplus(raw)
