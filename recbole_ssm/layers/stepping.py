"""The step of a layer: what it looks like from outside, and how those with a convolution are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

Step: TypeAlias = Callable[..., tuple[Tensor, Any]]
"""Called with what a layer reads of the next token of R sequences (R, d_model), with its state (None at the start), and
by name with what its mixer takes beside them; gives (R, d_model) and the state after this token."""


def convolved_step(
    op: Callable[..., tuple[Tensor, Tensor, Tensor]],
    of_window: tuple[int, ...],
    of_state: tuple[int, ...],
    gap_weight: Tensor | None,
) -> Step:
    """The step of a mixer that keeps the last inputs of a convolution and a state; at the start both are zeros.

    Args:
        op: the mixer's op with its weights: takes hidden (R, d_model), the inputs (R, *of_window), the state
            (R, *of_state), and what gaps add to step sizes (None for nothing); gives (R, d_model) and both anew.
        of_window: shape of the inputs of one sequence.
        of_state: shape of the state of one sequence.
        gap_weight: (time_gaps, ...), what a gap's numbers add to step sizes; None for nothing.

    Returns:
        A function of ``hidden``, ``state`` and ``gaps`` (R, time_gaps).
    """

    def step(hidden: Tensor, state: Any = None, *, gaps: Tensor | None = None) -> tuple[Tensor, Any]:
        if state is None:
            state = hidden.new_zeros(len(hidden), *of_window), hidden.new_zeros(len(hidden), *of_state)
        more_dt = None if gaps is None or gap_weight is None else gaps @ gap_weight
        out, window, states = op(hidden, *state, more_dt)
        return out, (window, states)

    return step
