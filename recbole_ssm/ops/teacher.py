"""Targets that another model predicts, for the loss of a model that learns from it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Teacher(NamedTuple):
    """The softmax of a trained model as part of the targets (Hinton et al., arXiv 1503.02531); it gets no gradient."""

    hidden: Tensor
    """(R, k)."""
    weight: Tensor
    """(V, k): its logits are ``hidden @ weight.T``."""
    seen_bias: float = 0.0
    """Added to its logits of the items that a row has seen."""
    share: float = 0.5
    """Of the targets; the rest has the class that is the row's target."""
