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
    (R, H, P), (G, N), dtype = x.shape, B.shape[1:], state.dtype
    decay = torch.exp(dt * A)[..., None, None]
    inputs = (dt[..., None] * x).reshape(R, G, -1, 1).to(dtype)
    state = torch.addcmul((decay * state).reshape(R, G, -1, N), inputs, B[:, :, None].to(dtype))
    y = (state @ C[..., None].to(dtype)).view(R, H, P).to(x.dtype)
    return (y if D is None else torch.addcmul(y, D[:, None].to(x.dtype), x)), state.view(R, H, P, N)
