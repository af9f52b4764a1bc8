"""The loss by way of all logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.added import Added
from recbole_ssm.ops.teacher import Teacher


def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    *,
    added: Sequence[Added],
    teacher: Teacher | None,
) -> Tensor:
    """``-sum p . log softmax(hidden weight^T + bias + added)``; p is one-hot, or that and a teacher's softmax.

    Over the rows whose target is not negative (Hinton et al., arXiv 1503.02531).
    """
    logits = hidden @ weight.T
    if bias is not None:
        logits = logits + bias
    logits = logits + _dense(added, logits)
    wanted = F.one_hot(target.clamp(min=0), len(weight)).to(logits.dtype)
    if teacher is not None:
        predicted = teacher.hidden @ teacher.weight.T
        predicted = predicted + _dense(teacher.added, predicted)
        wanted = (1 - teacher.share) * wanted + teacher.share * predicted.softmax(1)
    return -(wanted * torch.log_softmax(logits, 1))[target >= 0].sum()


def _dense(added: Sequence[Added], logits: Tensor) -> Tensor:
    """What is added to each of the logits (R, V), number by number."""
    total = torch.zeros_like(logits)
    for to, weight in added:
        ranges = product(*map(range, to.start.shape))
        entries = [(*key, place) for key in ranges for place in range(int(to.start[key]), int(to.end[key]))]
        row, group, place = torch.tensor([e for e in entries if to.items[e[-1]] >= 0], dtype=torch.int64).view(-1, 3).T
        amount = weight[row, group] * (1.0 if to.values is None else to.values[place])
        total = total.index_put((row, to.items[place].long()), amount, accumulate=True)
    return total
