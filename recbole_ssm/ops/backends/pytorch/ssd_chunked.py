"""The scan in exact chunks: the form that anyone can read, and that autograd differentiates.

Inside a chunk it is masked attention, between chunks a recurrence over chunk states (arXiv 2405.21060, section 6).
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ssm.ops.packing import lengths_of, positions


def _chunk_size(n_tokens: int, n_sequences: int) -> int:
    """Near the mean length: longer chunks waste work on short sequences, shorter ones on long."""
    mean = n_tokens / max(n_sequences, 1)
    return 8 if mean < 12 else 16 if mean < 48 else 32


def ssd_chunked(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, cu_seqlens: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``y`` and final states of :func:`recbole_ssm.ops.ssd`, without D and forward in time."""
    (T, H, P), (_, G, N) = x.shape, B.shape
    S = len(cu_seqlens) - 1
    Q = _chunk_size(T, S)

    # Each sequence is cut into chunks of Q tokens; its last one is filled up with zeros, which change no state.
    n_chunks = (lengths_of(cu_seqlens).long() + Q - 1) // Q
    first_chunk = n_chunks.cumsum(0) - n_chunks
    K = int(n_chunks.sum())
    position = positions(cu_seqlens, T)
    slot = first_chunk.repeat_interleave(lengths_of(cu_seqlens), output_size=T) * Q + position

    def chunks(tensor: Tensor) -> Tensor:
        grid = tensor.new_zeros(K * Q, *tensor.shape[1:]).index_copy(0, slot, tensor)
        return grid.view(K, Q, *tensor.shape[1:])

    xdt = chunks(x * dt[..., None])  # (K, Q, H, P)
    B, C = chunks(B), chunks(C)  # (K, Q, G, N)
    # (K, Q, H), from the chunk's start up to each token; in float64, since differences of such sums are taken
    log_decay = chunks(dt * A).double().cumsum(1)

    # Within a chunk: y_i = sum_{j <= i} (C_i . B_j) exp(log_decay_i - log_decay_j) xdt_j. Above the diagonal the
    # difference is positive and could overflow, so it is masked before exp and after.
    later = torch.ones(Q, Q, dtype=torch.bool, device=x.device).triu(1)[:, :, None]
    decay = (log_decay[:, :, None] - log_decay[:, None]).masked_fill(later, 0.0).to(x.dtype).exp()  # (K, Q, Q, H)
    decay = decay.masked_fill(later, 0.0)
    scores = torch.einsum("kign,kjgn->kijg", C, B).repeat_interleave(H // G, dim=3)
    y = torch.einsum("kijh,kjhp->kihp", scores * decay, xdt)

    # What each chunk adds to the state, and the state that enters each chunk.
    to_end = (log_decay[:, -1:] - log_decay).to(x.dtype).exp()[..., None]  # (K, Q, H, 1)
    from_start = log_decay.to(x.dtype).exp()
    by_group = (K, Q, G, H // G, P)
    added = torch.einsum("kqgrp,kqgn->kgrpn", (xdt * to_end).view(by_group), B).reshape(K, H, P, N)
    entering, final = _pass_states(added, from_start[:, -1], n_chunks, first_chunk, initial_state)

    carried = torch.einsum("kqgn,kgrpn->kqgrp", C, entering.view(K, G, H // G, P, N)).reshape(K, Q, H, P)
    y = y + carried * from_start[..., None]
    return y.reshape(K * Q, H, P)[slot], final


def _pass_states(
    added: Tensor, decay: Tensor, n_chunks: Tensor, first_chunk: Tensor, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The recurrence over chunks, all sequences side by side, the longest first so that the live ones are a prefix.

    Args:
        added: (K, H, P, N), what each chunk adds to the state.
        decay: (K, H), what is left of the entering state after each chunk.
        n_chunks: (S,) of each sequence.
        first_chunk: (S,) of each sequence.
        initial_state: (S, H, P, N), or None for zeros.

    Returns:
        The state entering each chunk (K, H, P, N) and the final state of each sequence (S, H, P, N).
    """
    order = n_chunks.argsort(descending=True, stable=True)
    if initial_state is None:
        state = added.new_zeros(len(n_chunks), *added.shape[1:])
    else:
        state = initial_state[order]
    most = int(n_chunks.max()) if len(n_chunks) else 0
    alive = (n_chunks[:, None] > torch.arange(most + 1, device=n_chunks.device)).sum(0).tolist()
    chunk_numbers, entering, finished = [], [], [state[alive[0] :]]
    state = state[: alive[0]]
    for step in range(most):
        now = first_chunk[order[: alive[step]]] + step
        chunk_numbers.append(now)
        entering.append(state)
        state = decay[now][:, :, None, None] * state + added[now]
        finished.append(state[alive[step + 1] :])
        state = state[: alive[step + 1]]
    final = torch.cat(finished[::-1])[order.argsort()]
    if not entering:
        return added, final
    return torch.cat(entering)[torch.cat(chunk_numbers).argsort()], final
