"""Dropout."""

from __future__ import annotations

from torch import Tensor, nn

from recbole_ssm.ops import dropout


class Dropout(nn.Dropout):
    """``nn.Dropout`` on the chosen backend. The C library's is several times faster, and keeps no mask."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if self.training and 0 < self.p < 1:
            return dropout(x, self.p)
        return super().forward(x)
