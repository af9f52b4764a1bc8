"""Ops as torch.export can put them into a graph that holds for any number of tokens and any borders.

The work is quadratic in the number of tokens for attention and ``ssd``, over the whole stream: give a graph one history
at a time. The recurrences whose states are too many for that go token by token, as the higher-order operator ``scan``,
which becomes ONNX's Scan.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.base import Backend, Kernel
from recbole_ssm.ops.backends.one_direction import reads_backwards_by_flipping
from recbole_ssm.ops.packing import positions, sequence_index


def _later(cu_seqlens: Tensor, n_tokens: int) -> Tensor:
    """Where token j is of another sequence than token i, or after it: (T, T)."""
    sequence = sequence_index(cu_seqlens, n_tokens)
    index = torch.arange(n_tokens, device=cu_seqlens.device)
    return (sequence[:, None] != sequence) | (index[:, None] < index)


def attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The op ``causal_attention``."""
    q, k, v = (each.transpose(0, 1) for each in (q, k, v))
    scores = (q @ k.mT) * q.shape[-1] ** -0.5
    weights = scores.masked_fill(_later(cu_seqlens, q.shape[1]), -torch.inf).softmax(-1)
    return (weights @ v).transpose(0, 1)


@reads_backwards_by_flipping
def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> Tensor:
    """The op ``ssd`` without states, as masked attention (arXiv 2405.21060, section 3)."""
    log_decay = (dt * A).double().cumsum(0).T  # (H, T); in float64, since differences of such sums are taken
    later = _later(cu_seqlens, x.shape[0])
    decay = (log_decay[:, :, None] - log_decay[:, None]).masked_fill(later, -torch.inf).to(x.dtype).exp()
    scores = torch.einsum("ign,jgn->gij", C, B).repeat_interleave(x.shape[1] // B.shape[1], dim=0)
    y = ((scores * decay) @ (x * dt[..., None]).transpose(0, 1)).transpose(0, 1)
    return y if D is None else y + D[:, None] * x


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
) -> Tensor:
    """The op ``selective_scan`` without states."""
    decay = torch.exp(dt[..., None] * A).masked_fill(_first(cu_seqlens, len(u.shape), u), 0.0)
    h = _scan(_next, (decay, (dt * u)[..., None] * B[:, None]))
    y = (h @ C[..., None]).squeeze(-1)
    return y if D is None else y + D * u


def linear_recurrence(x: Tensor, decay: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The op ``linear_recurrence``, in pairs of real numbers: graphs of ONNX have no complex ones."""
    decays = torch.view_as_real(decay).expand(*x.shape, 2).masked_fill(_first(cu_seqlens, 2, x), 0.0)
    return torch.view_as_complex(_scan(_turn_next, (decays, torch.view_as_real(x))))


def _first(cu_seqlens: Tensor, dims: int, tokens: Tensor) -> Tensor:
    """Where a token (T, 1, ...) is the first of its sequence, with ``dims`` dimensions more."""
    return (positions(cu_seqlens, tokens.shape[0]) == 0).view(-1, *(1,) * dims)


def _next(h: Tensor, token: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    h = token[0] * h + token[1]
    return h, h.clone()


def _turn_next(h: Tensor, token: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    (real, imaginary), (a, b) = h.unbind(-1), token[0].unbind(-1)
    h = torch.stack([a * real - b * imaginary, a * imaginary + b * real], -1) + token[1]
    return h, h.clone()


def _scan(step: Any, tokens: tuple[Tensor, Tensor]) -> Tensor:
    """What ``step`` gives for each token, from zeros."""
    from torch._higher_order_ops import scan

    return scan(step, torch.zeros_like(tokens[1][0]), tokens)[1]


def _without_states(*arguments: Any, initial_state: Tensor | None, return_final_state: bool, **options: Any) -> bool:
    return initial_state is None and not return_final_state


EXPORTABLE = Backend(
    name="exportable",
    kernels={
        "ssd": Kernel(ssd, fits=_without_states),
        "selective_scan": Kernel(selective_scan, fits=_without_states),
        "linear_recurrence": Kernel(linear_recurrence),
        "attention": Kernel(attention),
    },
    takes=lambda tensor: True,
)
