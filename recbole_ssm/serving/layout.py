"""How what a session keeps lies in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_ssm.serving.forms import leaves, like

_ALIGNED = 16
"""Each tensor begins at a multiple of so many bytes."""


class Layout:
    """Where a representation and a state lie in a row of bytes, which is the same for every session of a model.

    Args:
        hidden: (1, hidden_size), of a session.
        state: of it; see :mod:`recbole_ssm.serving.forms`.

    Attributes:
        size: bytes of a row.
    """

    def __init__(self, hidden: Tensor, state: Any):
        parts = [hidden, *leaves(state)]
        self._form, self._dtypes = state, [part.dtype for part in parts]
        sizes = [part.numel() * part.element_size() for part in parts]
        starts = np.cumsum([0, *(size + -size % _ALIGNED for size in sizes)]).tolist()
        self.size: int = starts.pop()
        self._row = np.dtype(
            {
                "names": [f"part{number}" for number in range(len(parts))],
                "formats": [(_as_numpy(part).dtype, tuple(part.shape[1:])) for part in parts],
                "offsets": starts,
                "itemsize": self.size,
            }
        )
        self._end_of_hidden = sizes[0]

    def written(self, hidden: Tensor, state: Any) -> list[bytes]:
        """The row of each of R sessions."""
        rows = np.zeros(len(hidden), self._row)
        for name, part in zip(self._row.names or (), (hidden, *leaves(state)), strict=True):
            rows[name] = _as_numpy(part)
        found = rows.tobytes()
        return [found[start : start + self.size] for start in range(0, len(found), self.size)]

    def hidden(self, rows: Sequence[bytes], device: torch.device) -> Tensor:
        """The representations (R, hidden_size) in R rows."""
        joined = bytearray(b"".join([row[: self._end_of_hidden] for row in rows]))
        return torch.frombuffer(joined, dtype=self._dtypes[0]).view(len(rows), -1).to(device)

    def state(self, rows: Sequence[bytes], device: torch.device) -> Any:
        """The state in R rows."""
        found = np.frombuffer(bytearray(b"".join(rows)), self._row)
        names = (self._row.names or ())[1:]
        parts = (
            torch.from_numpy(found[name]).view(dtype).to(device)
            for name, dtype in zip(names, self._dtypes[1:], strict=True)
        )
        return like(self._form, parts)


def _as_numpy(tensor: Tensor) -> NDArray[Any]:
    """A tensor on the CPU as numpy has it, which lacks bfloat16."""
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
