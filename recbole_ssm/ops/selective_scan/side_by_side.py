"""The selective scan as a loop over time in which all sequences advance side by side: any device, any type."""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from recbole_ssm.ops.packing import positions

_STEPS_KEPT = 32
"""States are kept for the backward pass once in so many steps and recomputed in between."""


def scan_side_by_side(u, dt, A, B, C, cu_seqlens, initial_state):
    """``y`` and final states of :func:`recbole_ssm.ops.selective_scan`, without D and forward in time.

    Longest sequence first, tokens sorted by time: the live sequences are always a prefix, step t a slice.
    """
    T, S = len(u), len(cu_seqlens) - 1
    lengths = cu_seqlens.diff().long()
    order = lengths.argsort(descending=True, stable=True)
    rank = order.argsort()
    position = positions(cu_seqlens, T)
    by_time = (position * S + rank.repeat_interleave(lengths, output_size=T)).argsort()
    alive = position.bincount().tolist()

    if initial_state is None:
        state = u.new_zeros(S, *A.shape)
    else:
        state = initial_state[order]
    inputs = [tensor[by_time] for tensor in (dt * u, dt, B, C)]
    finished = [state[alive[0] :]] if alive else [state]
    state = state[: alive[0]] if alive else state
    outputs, start = [], 0
    for first in range(0, len(alive), _STEPS_KEPT):
        block = alive[first : first + _STEPS_KEPT]
        end = start + sum(block)
        following = alive[first + _STEPS_KEPT] if first + _STEPS_KEPT < len(alive) else 0
        y, state, ended = checkpoint(
            _steps, state, A, *(tensor[start:end] for tensor in inputs), [*block, following], use_reentrant=False
        )
        outputs.append(y)
        finished.append(ended)
        start = end
    y = torch.cat(outputs)[by_time.argsort()] if outputs else u
    return y, torch.cat(finished[::-1])[rank]


def _steps(state, A, dtu, dt, B, C, alive):
    """A few steps of the recurrence: outputs, the states that go on, and those of sequences that ended."""
    outputs, finished, start = [], [], 0
    for now, following in zip(alive, alive[1:], strict=False):
        step = slice(start, start + now)
        state = torch.exp(dt[step, :, None] * A) * state + dtu[step, :, None] * B[step, None, :]
        outputs.append(torch.einsum("sen,sn->se", state, C[step]))
        finished.append(state[following:])
        state = state[:following]
        start += now
    return torch.cat(outputs), state, torch.cat(finished[::-1])
