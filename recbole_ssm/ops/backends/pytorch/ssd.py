"""State-space duality in two forms: as products of matrices, and in exact chunks where states are given or wanted."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends.one_direction import reads_backwards_by_flipping
from recbole_ssm.ops.backends.pytorch.ssd_chunked import ssd_chunked
from recbole_ssm.ops.backends.pytorch.ssd_factorised import ssd_factorised


@reads_backwards_by_flipping
def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """The op ``ssd``."""
    if initial_state is None and not return_final_state:
        return ssd_factorised(x, dt, A, B, C, cu_seqlens, D)
    y, final = ssd_chunked(x, dt, A, B, C, cu_seqlens, initial_state)
    y = y if D is None else y + D[:, None] * x
    return (y, final) if return_final_state else y
