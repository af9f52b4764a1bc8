"""One step of state-space duality, for sequences that grow token by token."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends.pytorch import mixer_steps


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
    return mixer_steps.ssd_step(state, x, dt, A, B, C, D=D)
