"""Scans that run forward in time alone, made to run backwards too."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from torch import Tensor

from recbole_ssm.ops.packing import flip_borders

Result = Tensor | tuple[Tensor, Tensor]
"""Of a scan: y, and the final states where they are asked for."""


def reads_backwards_by_flipping(scan: Callable[..., Result]) -> Callable[..., Result]:
    """Decorator of a scan without the argument ``reverse``: it gets the flipped stream, and its results are flipped.

    Args:
        scan: the forward scan; takes (x, dt, A, B, C, cu_seqlens, D, initial_state, return_final_state).

    Returns:
        The scan with ``reverse``, as the ops ``ssd`` and ``selective_scan`` have it.
    """

    @wraps(scan)
    def either_way(
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        cu_seqlens: Tensor,
        *,
        D: Tensor | None,
        reverse: bool,
        initial_state: Tensor | None,
        return_final_state: bool,
    ) -> Result:
        if not reverse:
            return scan(x, dt, A, B, C, cu_seqlens, D, initial_state, return_final_state)
        x, dt, B, C = (tensor.flip(0) for tensor in (x, dt, B, C))
        initial_state = None if initial_state is None else initial_state.flip(0)
        result = scan(x, dt, A, B, C, flip_borders(cu_seqlens), D, initial_state, return_final_state)
        return (result[0].flip(0), result[1].flip(0)) if isinstance(result, tuple) else result.flip(0)

    return either_way
