"""One step of the selective scan, for sequences that grow token by token."""

from __future__ import annotations

from torch import Tensor

from recbole_ssm.ops.backends.pytorch import mixer_steps


def selective_scan_step(
    state: Tensor, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, *, D: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The next token of R sequences: what :func:`selective_scan` would give after all tokens before it.

    Args:
        state: (R, E, N) after the token before; zeros at the start of a sequence.
        u: (R, E) inputs.
        dt: (R, E) step sizes, not negative (after softplus).
        A: (E, N) negative.
        B: (R, N) input projections.
        C: (R, N) output projections.
        D: (E,) skip connection, or None.

    Returns:
        y (R, E) and the state (R, E, N) after this token.
    """
    return mixer_steps.selective_scan_step(state, u, dt, A, B, C, D=D)
