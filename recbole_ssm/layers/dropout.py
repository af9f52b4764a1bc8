"""Dropout."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_ssm.ops import dropout


class Dropout(nn.Dropout):
    """``nn.Dropout`` on the chosen backend. The C library's is several times faster, and keeps no mask."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training:
            return x
        return dropout(x, self.p) if 0 < self.p < 1 else super().forward(x)
