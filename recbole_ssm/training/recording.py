"""``cuda_graph``: training steps in shapes that recur, so that a GPU can record and replay them.

A small model's step is hundreds of kernels, which take longer to launch than to compute. A graph needs the same shapes
each time. So a batch is filled up with sequences that have no targets, to one of few shapes; each shape is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, autocast
from torch.nn.utils import clip_grad_norm_

from recbole_ssm.errors import InputError
from recbole_ssm.system.cuda_graphs import NotRecorded, recorded

if TYPE_CHECKING:
    from recbole_ssm.training.trainer import HookedTrainer

_TOKENS = 256
"""Batches are filled up to a multiple of so many tokens (and of targets, where histories are cut),"""
_SEQUENCES = 8
"""and to this number of sequences or a power of two times it."""

_CALLS_BEFORE = 3
"""A shape is recorded when it occurs once more than so often: one that is rare is not worth it."""

_NO_TARGET = -100
"""``ignore_index`` of :func:`recbole_ssm.ops.linear_cross_entropy`."""


class Shape(NamedTuple):
    """The shape of a batch that is filled up."""

    tokens: int
    sequences: int
    targets: int


def filled_up(n_tokens: int, n_sequences: int, n_targets: int, *, cut: bool = False) -> Shape:
    """The shape for a batch: at least one sequence more, and one token for each sequence that is added.

    Args:
        n_tokens: of the batch.
        n_sequences: of the batch.
        n_targets: as many as tokens, or as sequences, or with ``cut`` any number.
        cut: whether histories are cut, see :func:`recbole_ssm.data.collate.cut_histories`.

    Returns:
        A shape of which there are few.
    """
    sequences = _SEQUENCES
    while sequences <= n_sequences:
        sequences *= 2
    added = sequences - n_sequences
    if cut:
        targets = _rounded_up(n_targets + added)
        return Shape(_rounded_up(n_tokens + targets - n_targets), sequences, targets)
    tokens = _rounded_up(n_tokens + added)
    return Shape(tokens, sequences, tokens if n_targets == n_tokens else sequences)


def _rounded_up(number: int) -> int:
    return number + -number % _TOKENS


class FilledBatch:
    """Memory for the batches of one shape.

    Args:
        shape: of the batches.
        batch: the first of them, for the number types of its fields.
        fields: those that have a value for each token.
        target: the field of targets.
    """

    def __init__(self, shape: Shape, batch: Interaction, fields: tuple[str, ...], target: str):
        self._shape, self._fields, self._target = shape, fields, target
        sizes = dict.fromkeys(fields, shape.tokens) | {target: shape.targets, "cu_seqlens": shape.sequences + 1}
        if "cut" in batch:
            sizes |= {"cut": shape.sequences, "readout": shape.targets}
        self.batch = Interaction({field: batch[field].new_zeros(size) for field, size in sizes.items()})

    def fill(self, batch: Interaction) -> None:
        """Take a batch. What is added to it are sequences of one token, and a last one of all tokens that are left."""
        for field, values in self.batch.interaction.items():
            values[: len(batch[field])].copy_(batch[field])  # after these, tokens stay what they were before
        n_tokens, n_targets = len(batch[self._fields[0]]), len(batch[self._target])
        self.batch[self._target][n_targets:].fill_(_NO_TARGET)
        borders = self.batch["cu_seqlens"][len(batch["cu_seqlens"]) :]
        torch.arange(n_tokens + 1, n_tokens + 1 + len(borders), out=borders)
        borders[-1:].fill_(self._shape.tokens)
        if "cut" in batch:
            self._fill_cuts(batch, n_tokens, n_targets)

    def _fill_cuts(self, batch: Interaction, n_tokens: int, n_targets: int) -> None:
        """Cut the last sequence where it must be, so that there are as many targets as the shape has."""
        cut, readout = self.batch["cut"][len(batch["cut"]) :], self.batch["readout"][n_targets:]
        alone = len(cut) - 1
        last = len(readout) - alone  # targets of the last sequence
        cut.fill_(1)
        cut[-1:].fill_(self._shape.tokens - n_tokens - alone - last + 1)
        torch.arange(n_tokens, n_tokens + alone, out=readout[:alone])
        torch.arange(self._shape.tokens - last, self._shape.tokens, out=readout[alone:])


class _Step:
    """Loss and gradients of the batches of one shape."""

    def __init__(self, trainer: HookedTrainer, filled: FilledBatch, pool: object):
        self._trainer, self._filled, self._pool = trainer, filled, pool
        self._parameters = list(trainer.model.parameters())
        self._loss = torch.zeros((), device=trainer.device)
        self._calls = 0
        self._replay: Callable[[], None] | None = None
        self._gradients: list[Tensor | None] = []

    def __call__(self, batch: Interaction) -> Tensor:
        self._filled.fill(batch)
        if self._calls == _CALLS_BEFORE:
            self._record()
        self._calls += 1
        if self._replay is None:
            self._compute()
        else:
            self._replay()
            for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
                parameter.grad = gradient
        return self._loss.clone()

    def _record(self) -> None:
        try:
            replay = recorded(self._compute, self._trainer.device, calls_before=0, pool=self._pool)
        except NotRecorded as error:
            raise InputError(f"cuda_graph: the step cannot be recorded ({error}); set it to False") from error
        if replay != self._compute:
            self._replay = replay
            self._gradients = [parameter.grad for parameter in self._parameters]

    def _compute(self) -> None:
        trainer = self._trainer
        trainer.optimizer.zero_grad()
        with autocast(trainer.device.type, enabled=trainer.enable_amp, cache_enabled=False):
            loss = trainer.model.calculate_loss(self._filled.batch)
        loss.backward()
        if trainer.clip_grad_norm:
            clip_grad_norm_(self._parameters, **trainer.clip_grad_norm)
        self._loss.copy_(loss.detach())


class RecordedSteps:
    """Computes losses and gradients, on a GPU by graphs; on a CPU the same batches are computed directly.

    Args:
        trainer: with the model and its optimiser.
    """

    def __init__(self, trainer: HookedTrainer):
        self._trainer = trainer
        model = trainer.model
        self._fields = (model.ITEM_SEQ, *map(model.field_of, model.columns))
        self._target = model.POS_ITEM_ID
        self._steps: dict[Shape, _Step] = {}
        self._pool = torch.cuda.graph_pool_handle() if trainer.device.type == "cuda" else None

    def __call__(self, batch: Interaction) -> Tensor:
        """The loss () of a batch; its gradients are those of the parameters."""
        sizes = len(batch[self._fields[0]]), len(batch["cu_seqlens"]) - 1, len(batch[self._target])
        shape = filled_up(*sizes, cut="cut" in batch)
        if shape not in self._steps:
            filled = FilledBatch(shape, batch, self._fields, self._target)
            self._steps[shape] = _Step(self._trainer, filled, self._pool)
        return self._steps[shape](batch)
