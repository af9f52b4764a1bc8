"""State-space duality: the scan of Mamba-2, Hydra and SSD4Rec over a packed stream."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from recbole_ssm.ops.backends import compute_in_float32
from recbole_ssm.ops.packing import check_shapes
from recbole_ssm.ops.state_space_duality.step import ssd_step

__all__ = ["ssd", "ssd_step"]


@overload
def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, cu_seqlens: Tensor, *, D: Tensor | None = None,
    reverse: bool = False, initial_state: Tensor | None = None, return_final_state: Literal[False] = False,
) -> Tensor: ...  # fmt: skip


@overload
def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, cu_seqlens: Tensor, *, D: Tensor | None = None,
    reverse: bool = False, initial_state: Tensor | None = None, return_final_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    *,
    D: Tensor | None = None,
    reverse: bool = False,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """``h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t]^T;  y[t] = h[t] C[t] + D x[t]`` within each sequence.

    The state is one (P, N) matrix per head with a scalar decay (Mamba-2, arXiv 2405.21060). It is zero, or
    ``initial_state``, at the start of each sequence. A decay below exp(-20) per step may count as exp(-20), which is
    less than float32 resolves. Half precision is computed in float32, and y returned in the type of x.

    Args:
        x: (T, H, P) inputs.
        dt: (T, H) step sizes, not negative (after softplus).
        A: (H,) negative.
        B: (T, G, N) input projections; G divides H, heads of a group share them.
        C: (T, G, N) output projections.
        cu_seqlens: (S + 1,) int, borders of the sequences.
        D: (H,) skip connection, or None.
        reverse: run each sequence from its last token to its first; ``y[t]`` then depends on t and what follows.
        initial_state: (S, H, P, N) or None for zeros.
        return_final_state: also return the state after the last token of the recurrence.

    Returns:
        y (T, H, P), and with ``return_final_state`` also the states (S, H, P, N).
    """
    (T, H, P), (G, N), S = x.shape, B.shape[-2:], cu_seqlens.shape[0] - 1
    check_shapes(
        cu_seqlens,
        T,
        dt=(dt, (T, H)),
        A=(A, (H,)),
        B=(B, (T, G, N)),
        C=(C, (T, G, N)),
        D=(D, (H,)),
        initial_state=(initial_state, (S, H, P, N)),
    )
    options = {"D": D, "reverse": reverse, "initial_state": initial_state}
    return compute_in_float32("ssd", x, dt, A, B, C, cu_seqlens, **options, return_final_state=return_final_state)
