"""One step of state-space duality, for sequences that grow token by token."""

from __future__ import annotations

import torch
from torch import Tensor


def ssd_step(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The next token of R sequences: what :func:`ssd` would give after all tokens before it.

    Args:
        state: (R, H, P, N) after the token before; zeros at the start of a sequence.
        x: (R, H, P) inputs.
        dt: (R, H) step sizes, not negative (after softplus).
        A: (H,) negative.
        B: (R, G, N) input projections; G divides H, heads of a group share them.
        C: (R, G, N) output projections.
        D: (H,) skip connection, or None.

    Returns:
        y (R, H, P) and the state (R, H, P, N) after this token.
    """
    heads_per_group = x.shape[1] // B.shape[1]
    B, C = (projection.repeat_interleave(heads_per_group, 1) for projection in (B, C))
    decay = torch.exp(dt * A)[..., None, None]
    state = decay * state + (dt[..., None] * x)[..., None] * B[:, :, None]
    y = (state @ C[..., None].to(state.dtype)).squeeze(-1).to(x.dtype)
    return (y if D is None else y + D[:, None] * x), state
