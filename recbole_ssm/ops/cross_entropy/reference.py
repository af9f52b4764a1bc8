"""The loss by way of all logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.packing import RowItems
from recbole_ssm.ops.teacher import Teacher


def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seen_bias: Tensor | None,
    target: Tensor,
    *,
    seen: RowItems | None,
    teacher: Teacher | None,
) -> Tensor:
    """``-sum p . log softmax(hidden weight^T + bias + seen_bias)``; p is one-hot, or that and a teacher's softmax.

    Over the rows whose target is not negative (Hinton et al., arXiv 1503.02531).
    """
    logits = hidden @ weight.T
    if bias is not None:
        logits = logits + bias
    row, item = (target[:0], target[:0]) if seen is None else seen.of_rows()
    if seen_bias is not None:
        logits = logits.index_put((row, item), seen_bias.expand(len(row)), accumulate=True)
    wanted = F.one_hot(target.clamp(min=0), len(weight)).to(logits.dtype)
    if teacher is not None:
        predicted = teacher.hidden @ teacher.weight.T
        predicted[row, item] += teacher.seen_bias
        wanted = (1 - teacher.share) * wanted + teacher.share * predicted.softmax(1)
    return -(wanted * torch.log_softmax(logits, 1))[target >= 0].sum()
