"""The selective scan as a loop over time in which all sequences advance side by side: any device, any type."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_ssm.ops.backends.one_direction import reads_backwards_by_flipping
from recbole_ssm.ops.packing import lengths_of, positions
from recbole_ssm.ops.precision import without_autocast

_STEPS_KEPT = 32
"""Every so many steps a state is kept for the backward pass; those in between are computed again."""


@reads_backwards_by_flipping
def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """The op ``selective_scan``."""
    y, final = _side_by_side(u, dt, A, B, C, cu_seqlens, initial_state)
    if D is not None:
        y = y + D * u
    return (y, final) if return_final_state else y


def _side_by_side(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, cu_seqlens: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``y`` and final states, without D and forward in time.

    Longest sequence first, tokens sorted by time: the live sequences are always a prefix, step t a slice.
    """
    T, S = len(u), len(cu_seqlens) - 1
    lengths = lengths_of(cu_seqlens).long()
    order = lengths.argsort(descending=True, stable=True)
    rank = order.argsort()
    position = positions(cu_seqlens, T)
    by_time = (position * S + rank.repeat_interleave(lengths, output_size=T)).argsort()
    alive = position.bincount().tolist()
    state = u.new_zeros(S, *A.shape) if initial_state is None else initial_state[order]
    inputs = (tensor[by_time] for tensor in (dt * u, dt))
    y, final = _Loop.apply(*inputs, A, B[by_time], C[by_time], state, alive)
    return y[by_time.argsort()], final[rank]


def _step(state: Tensor, dtu: Tensor, dt: Tensor, A: Tensor, B: Tensor) -> tuple[Tensor, Tensor]:
    """The decays (S, E, N) of a step, and the states after it."""
    decay = torch.exp(dt[..., None] * A)
    return decay, torch.addcmul(decay * state, dtu[..., None], B[:, None])


class _Loop(torch.autograd.Function):
    """dtu, dt (T, E), A (E, N), B, C (T, N) and the states (S, E, N) to y (T, E) and the states when sequences end.

    Tokens are sorted by time; the first ``alive[t]`` sequences have a token at time t.
    """

    @staticmethod
    def forward(
        ctx: Any, dtu: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, alive: list[int]
    ) -> tuple[Tensor, Tensor]:
        kept: list[Tensor] = []
        ended: list[Tensor] = []
        y, end = torch.empty_like(dtu), 0
        for t, now in enumerate(alive):
            ended.append(state[now:])
            state = state[:now]
            if t % _STEPS_KEPT == 0:
                kept.append(state)
            step, end = slice(end, end + now), end + now
            _, state = _step(state, dtu[step], dt[step], A, B[step])
            torch.matmul(state, C[step, :, None], out=y[step, :, None])
        ctx.save_for_backward(dtu, dt, A, B, C, *kept)
        ctx.alive = alive
        return y, torch.cat([state, *ended[::-1]])

    @staticmethod
    @once_differentiable
    @without_autocast
    def backward(ctx: Any, dy: Tensor, d_final: Tensor) -> tuple[Tensor | None, ...]:
        dtu, dt, A, B, C, *kept = ctx.saved_tensors
        alive = ctx.alive
        d_dtu, d_dt, dA, dB, dC = (torch.empty_like(tensor) for tensor in (dtu, dt, A, B, C))
        dA.zero_()
        ends = torch.tensor([0, *alive]).cumsum(0).tolist()
        d_state = d_final[: alive[-1]] if alive else d_final
        for number in reversed(range(len(kept))):
            times = range(number * _STEPS_KEPT, min((number + 1) * _STEPS_KEPT, len(alive)))
            after, noted = kept[number], []
            for t in times:
                before, step = after[: alive[t]], slice(ends[t], ends[t + 1])
                decay, after = _step(before, dtu[step], dt[step], A, B[step])
                noted.append((before, decay, after))
            for t in reversed(times):
                (before, decay, after), step = noted.pop(), slice(ends[t], ends[t + 1])
                d_state = torch.addcmul(d_state, dy[step, :, None], C[step, None])
                torch.matmul(dy[step, None], after, out=dC[step, None])
                torch.matmul(dtu[step, None], d_state, out=dB[step, None])
                torch.matmul(d_state, B[step, :, None], out=d_dtu[step, :, None])
                d_state = d_state.mul_(decay)
                d_log_decay = d_state * before
                d_dt[step] = (d_log_decay * A).sum(-1)
                dA += torch.einsum("sen,se->en", d_log_decay, dt[step])
                if t:
                    d_state = torch.cat([d_state, d_final[alive[t] : alive[t - 1]]])
        d_initial = torch.cat([d_state, d_final[alive[0] :]]) if alive else d_final
        return d_dtu, d_dt, dA, dB, dC, d_initial, None
