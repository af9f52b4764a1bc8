"""Targets that another model predicts, for the loss of a model that learns from it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from recbole_ssm.ops.added import Added, check_added


class Teacher(NamedTuple):
    """A trained model whose softmax is part of the targets (Hinton et al., arXiv 1503.02531). It gets no gradient."""

    hidden: Tensor
    """(R, k)."""
    weight: Tensor
    """(V, k): its logits are ``hidden @ weight.T``."""
    added: tuple[Added, ...] = ()
    """Numbers that are added to some of its logits of each row."""
    share: float = 0.5
    """The teacher's part of the targets, 0 to 1; the row's own target has the rest."""

    def for_(self, student: Tensor, n_items: int) -> Teacher:
        """The same teacher in the number type and on the device of a student.

        Args:
            student: the student's ``hidden``, (R, d).
            n_items: V.

        Returns:
            The teacher, without gradients.

        Raises:
            ValueError: its shapes do not fit, or its share is not from 0 to 1.
        """
        (rows, width), (items, k) = self.hidden.shape, self.weight.shape
        if (rows, items, width) != (len(student), n_items, k) or not 0.0 <= self.share <= 1.0:
            raise ValueError(
                f"a teacher of {len(student)} rows and {n_items} items has hidden (R, k), weight (V, k) and a share "
                f"from 0 to 1, not {tuple(self.hidden.shape)}, {tuple(self.weight.shape)} and {self.share}"
            )
        check_added(self.added, rows, items)
        added = tuple(each.like(student) for each in self.added)
        return self._replace(
            hidden=self.hidden.detach().to(student), weight=self.weight.detach().to(student), added=added
        )
