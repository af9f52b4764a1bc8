"""Causal attention over a packed stream, by torch's ``scaled_dot_product_attention``."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The op ``causal_attention``.

    Sequences whose lengths have the same power of two above them go together, padded at their ends, which nothing
    before the end attends to: a call for each power of two, and less than twice the tokens.
    """
    start, lengths = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    size = lengths.clamp(min=1).double().log2().ceil()
    outputs, places = [v[:0]], [start[:0]]
    for bucket in size[lengths > 0].unique():
        chosen = (size == bucket) & (lengths > 0)
        step = torch.arange(int(lengths[chosen].max()), device=q.device)
        valid = step < lengths[chosen, None]
        place = start[chosen, None] + step.where(valid, 0)
        rows = [tensor[place].transpose(1, 2) for tensor in (q, k, v)]
        y = F.scaled_dot_product_attention(rows[0], rows[1], rows[2], is_causal=True)
        outputs.append(y.transpose(1, 2)[valid])
        places.append(place[valid])
    return torch.cat(outputs)[torch.cat(places).argsort()]
