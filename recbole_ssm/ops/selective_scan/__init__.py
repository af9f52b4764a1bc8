"""The selective scan of Mamba (Mamba-1) over a packed stream."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops import native
from recbole_ssm.ops.backend import choose
from recbole_ssm.ops.packing import check_shapes, flip_borders
from recbole_ssm.ops.precision import in_float32
from recbole_ssm.ops.selective_scan.side_by_side import scan_side_by_side
from recbole_ssm.ops.selective_scan.step import selective_scan_step

__all__ = ["selective_scan", "selective_scan_step"]


@in_float32("selective_scan")
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
    (T, E), N, S = u.shape, B.shape[-1], len(cu_seqlens) - 1
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
    backend = choose("selective_scan", u, dt, A, B, C, D, initial_state)
    if backend == "native":
        state = None if initial_state is None else initial_state.mT
        y, final = native.selective_scan(u, dt, A.mT, B, C, cu_seqlens, D, state, reverse=reverse)
        return (y, final.mT) if return_final_state else y
    if backend == "triton":
        from recbole_ssm.ops.selective_scan.triton_kernels import selective_scan_triton  # triton may be missing

        y, final = selective_scan_triton(u, dt, A, B, C, cu_seqlens, initial_state, reverse=reverse)
        y = y if D is None else y + D * u
        return (y, final) if return_final_state else y
    if reverse:
        u, dt, B, C = (tensor.flip(0) for tensor in (u, dt, B, C))
        cu_seqlens = flip_borders(cu_seqlens)
        initial_state = None if initial_state is None else initial_state.flip(0)
    y, final = scan_side_by_side(u, dt, A, B, C, cu_seqlens, initial_state)
    if D is not None:
        y = y + D * u
    if reverse:
        y, final = y.flip(0), final.flip(0)
    return (y, final) if return_final_state else y
