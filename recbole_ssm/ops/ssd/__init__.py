"""State-space duality: the scan of Mamba-2, Hydra and SSD4Rec over a packed stream."""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops import mamba_ssm, native
from recbole_ssm.ops.backend import choose
from recbole_ssm.ops.packing import check_shapes, flip_borders
from recbole_ssm.ops.precision import in_float32, without_half
from recbole_ssm.ops.ssd.chunked import ssd_chunked
from recbole_ssm.ops.ssd.factorised import ssd_factorised
from recbole_ssm.ops.ssd.step import ssd_step

__all__ = ["ssd", "ssd_step"]


@in_float32("ssd")
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
    (T, H, P), (G, N), S = x.shape, B.shape[-2:], len(cu_seqlens) - 1
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
    backend = choose("ssd", x, dt, A, B, C, D, initial_state)
    if backend == "native":
        return _compiled(x, dt, A, B, C, cu_seqlens, D, reverse, initial_state, return_final_state)
    if reverse:
        x, dt, B, C = (tensor.flip(0) for tensor in (x, dt, B, C))
        cu_seqlens = flip_borders(cu_seqlens)
        initial_state = None if initial_state is None else initial_state.flip(0)
    if backend == "mamba_ssm" and initial_state is None and not return_final_state:
        y, final = mamba_ssm.ssd(x, dt, A, B, C, cu_seqlens, D), None
    elif initial_state is None and not return_final_state:
        y, final = ssd_factorised(x, dt, A, B, C, cu_seqlens, D), None
    else:
        x, dt, A, B, C, initial_state = map(without_half, (x, dt, A, B, C, initial_state))
        y, final = ssd_chunked(x, dt, A, B, C, cu_seqlens, initial_state)
        y = y if D is None else y + D[:, None] * x
    if reverse:
        y, final = y.flip(0), None if final is None else final.flip(0)
    return (y, final) if return_final_state else y


def _compiled(x, dt, A, B, C, cu_seqlens, D, reverse, initial_state, return_final_state):
    """In C: the heads of a group are so many channels with the same B and C."""
    (_, H, P), G = x.shape, B.shape[1]
    y, final = [], []
    for g, heads in enumerate(torch.arange(H).view(G, -1).tolist()):
        heads = slice(heads[0], heads[-1] + 1)
        state = None if initial_state is None else initial_state[:, heads].flatten(1, 2).mT
        y_g, final_g = native.ssd(
            x[:, heads],
            dt[:, heads],
            A[heads],
            B[:, g],
            C[:, g],
            cu_seqlens,
            None if D is None else D[heads],
            state,
            reverse=reverse,
            return_final_state=return_final_state,
        )
        y.append(y_g)
        if return_final_state:
            final.append(final_g.mT.unflatten(1, (-1, P)))
    y = y[0] if G == 1 else torch.cat(y, 1)
    return (y, torch.cat(final, 1)) if return_final_state else y
