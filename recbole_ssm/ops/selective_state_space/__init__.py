"""The selective scan of Mamba (Mamba-1) over a packed stream."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from recbole_ssm.ops.backends import compute_in_float32
from recbole_ssm.ops.packing import check_shapes
from recbole_ssm.ops.selective_state_space.step import selective_scan_step

__all__ = ["selective_scan", "selective_scan_step"]


@overload
def selective_scan(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, cu_seqlens: Tensor, *, D: Tensor | None = None,
    reverse: bool = False, initial_state: Tensor | None = None, return_final_state: Literal[False] = False,
) -> Tensor: ...  # fmt: skip


@overload
def selective_scan(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, cu_seqlens: Tensor, *, D: Tensor | None = None,
    reverse: bool = False, initial_state: Tensor | None = None, return_final_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip


def selective_scan(
    u: Tensor,
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
    """``h[t] = exp(dt[t] A) h[t-1] + dt[t] u[t] B[t];  y[t] = h[t] C[t] + D u[t]`` within each sequence.

    Every channel has N states with decays of their own (arXiv 2312.00752, Algorithm 2), so unlike :func:`ssd` this
    does not turn into matrix products. In PyTorch alone it is a loop over time in which all sequences advance side by
    side. Half precision is computed in float32, and y returned in the type of u.

    Args:
        u: (T, E) inputs.
        dt: (T, E) step sizes, not negative (after softplus).
        A: (E, N) negative.
        B: (T, N) input projections.
        C: (T, N) output projections.
        cu_seqlens: (S + 1,) int, borders of the sequences.
        D: (E,) skip connection, or None.
        reverse: run each sequence from its last token to its first.
        initial_state: (S, E, N) or None for zeros.
        return_final_state: also return the state after the last token of the recurrence.

    Returns:
        y (T, E), and with ``return_final_state`` also the states (S, E, N).
    """
    (T, E), N, S = u.shape, B.shape[-1], cu_seqlens.shape[0] - 1
    check_shapes(
        cu_seqlens,
        T,
        dt=(dt, (T, E)),
        A=(A, (E, N)),
        B=(B, (T, N)),
        C=(C, (T, N)),
        D=(D, (E,)),
        initial_state=(initial_state, (S, E, N)),
    )
    options = {"D": D, "reverse": reverse, "initial_state": initial_state}
    return compute_in_float32(
        "selective_scan", u, dt, A, B, C, cu_seqlens, **options, return_final_state=return_final_state
    )
