"""What a session keeps on the device, and the two things that are done with it: read an item, and rank all items.

On a GPU each of the two is some fifty small kernels, and to launch them takes longer than to compute them. There both
are recorded once, as CUDA graphs, and then launched as one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from logging import getLogger
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.serving.forms import leaves, like
from recbole_ssm.system.cuda_graphs import NotRecorded, recorded

_ALIGNED = 16
"""Each tensor of a session begins at a multiple of so many bytes."""


@dataclass
class Kept:
    """What a session keeps."""

    hidden: Tensor
    """(1, hidden_size), what the model makes of the history."""
    seen: Tensor
    """(1, n_items) bool, the items of the history."""
    latest: Tensor
    """(1, n_recent) int64, its latest items, the newest first; 0 where there are fewer."""
    state: Any
    """The model's, with which :meth:`recbole_ssm.model.base.PackedSequentialRecommender.step` goes on."""

    def clone(self) -> Kept:
        """A copy that goes its own way. What is replaced, and never written to, both have."""
        return replace(self, seen=self.seen.clone())


class Stepper:
    """Reads items and ranks, in the memory of one session at a time.

    Args:
        model: one that streams, in evaluation mode.
        device: that has it.
        columns: the values of one item for each column that the model reads, as :meth:`read` gets them.
    """

    def __init__(self, model: Any, device: torch.device, columns: Mapping[str, Tensor]):
        self._model, self._device = model, device
        item = torch.zeros(1, dtype=torch.int64, device=device)
        borders = torch.tensor([0, 1], dtype=torch.int32, device=device)
        there = {name: values.to(device) for name, values in columns.items()}
        hidden, state = model.prefill(item, borders, **there)
        self._step = model.stepper()
        self._form = self._begun(hidden, state)

    def _begun(self, hidden: Tensor, state: Any) -> Kept:
        seen = torch.zeros(1, self._model.n_items, dtype=torch.bool, device=self._device)
        return Kept(hidden, seen, torch.zeros(1, self._model.n_recent, dtype=torch.int64, device=self._device), state)

    def memory(self, hidden: Tensor, state: Any, items: Sequence[int]) -> Any:
        """The memory of a new session, which can be cloned.

        Args:
            hidden: (1, hidden_size) of the model after its history.
            state: of the model.
            items: the numbers in the history.

        Returns:
            What :meth:`kept` takes.
        """
        kept, read = self._begun(hidden, state), torch.tensor(items, device=self._device)
        kept.seen[0, read] = True
        latest = read.flip(0)[: self._model.n_recent]
        kept.latest[0, : len(latest)] = latest
        return kept

    def kept(self, memory: Any) -> Kept:
        """The parts of a memory."""
        return memory

    def read(self, memory: Any, item: int, columns: Mapping[str, Tensor]) -> None:
        """Let a session read its next item.

        Args:
            memory: of the session; changed in place.
            item: its number.
            columns: the item's values, (1,) each, on the CPU.
        """
        there = {name: values.to(self._device) for name, values in columns.items()}
        self._read(memory, torch.tensor([item], device=self._device), there)

    def rank(
        self, memory: Any, k: int, *, filter_seen: bool, allowed: Tensor | None = None
    ) -> tuple[list[float], list[int]]:
        """The best items after a session's history.

        Args:
            memory: of the session.
            k: how many are wanted, at most the number of items.
            filter_seen: whether items of the history are left out.
            allowed: (n_items,) bool on the CPU, the items that are not left out; None for all.

        Returns:
            Scores and numbers of the items, the best first; those left out have a score of -inf.
        """
        there = None if allowed is None else allowed.to(self._device)
        scores, items = self._rank(memory, k, filter_seen, there)
        return scores.tolist(), items.tolist()

    def _read(self, kept: Kept, item: Tensor, columns: Mapping[str, Tensor]) -> None:
        kept.hidden, kept.state = self._step(item, kept.state, **columns)
        kept.seen.scatter_(1, item[:, None], True)
        if self._model.n_recent:
            kept.latest = torch.cat([item[:, None], kept.latest], 1)[:, : self._model.n_recent]

    def _rank(self, kept: Kept, k: int, filter_seen: bool, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        added = self._model.added_after(kept.seen, kept.latest)
        left_out = partial(_left_out, kept.seen, filter_seen, allowed)
        scores = self._model.rank_after(kept.hidden, lambda: kept.state, added, k, left_out)
        scores[:, 0] = -torch.inf
        if filter_seen:
            scores.masked_fill_(kept.seen, -torch.inf)
        if allowed is not None:
            scores.masked_fill_(~allowed, -torch.inf)
        return torch.topk(scores[0], k)


def _left_out(seen: Tensor, filter_seen: bool, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows (n,) and items (n,) that are not recommended."""
    barred = seen if filter_seen else torch.zeros_like(seen)
    rows, items = (barred if allowed is None else barred | ~allowed).nonzero().T
    return rows, items


class RecordedStepper(Stepper):
    """The same with CUDA graphs. All sessions use the same memory in turn, into which theirs is copied.

    A memory is one tensor (bytes,) uint8.
    """

    def __init__(self, model: Any, device: torch.device, columns: Mapping[str, Tensor]):
        super().__init__(model, device, columns)
        parts = _parts(self._form)
        self._kinds = [(each.shape, each.dtype) for each in parts]
        sizes = [each.numel() * each.element_size() for each in parts]
        self._sizes = [size + -size % _ALIGNED for size in sizes]
        self._lock = Lock()
        self._memory = torch.zeros(sum(self._sizes), dtype=torch.uint8, device=device)
        self._item = torch.zeros(1, dtype=torch.int64, device=device)
        self._allowed = torch.ones(model.n_items, dtype=torch.bool, device=device)
        self._columns = {name: values.to(device, copy=True) for name, values in columns.items()}
        self._recorded: dict[Any, tuple[Callable[[], None], Tensor]] = {}

    def memory(self, hidden: Tensor, state: Any, items: Sequence[int]) -> Tensor:
        """See :meth:`Stepper.memory`."""
        memory = torch.zeros(sum(self._sizes), dtype=torch.uint8, device=self._device)
        _copy(self.kept(memory), super().memory(hidden, state, items))
        return memory

    def kept(self, memory: Tensor) -> Kept:
        """The parts of a memory, as views of it."""
        parts = memory.split_with_sizes(self._sizes)
        hidden, seen, latest, *state = (
            part[: shape.numel() * dtype.itemsize].view(dtype).view(shape)
            for part, (shape, dtype) in zip(parts, self._kinds, strict=True)
        )
        return Kept(hidden, seen, latest, like(self._form.state, iter(state)))

    def read(self, memory: Tensor, item: int, columns: Mapping[str, Tensor]) -> None:
        """See :meth:`Stepper.read`."""
        with self._lock:
            if "read" not in self._recorded:
                kept = self.kept(self._memory)
                run = _recorded(lambda: self._read_into(kept), self._device)
                self._recorded["read"] = run, self._memory
            self._memory.copy_(memory)
            self._item.fill_(item)
            for name, values in columns.items():
                self._columns[name].copy_(values)
            self._recorded["read"][0]()
            memory.copy_(self._memory)

    def rank(
        self, memory: Tensor, k: int, *, filter_seen: bool, allowed: Tensor | None = None
    ) -> tuple[list[float], list[int]]:
        """See :meth:`Stepper.rank`."""
        with self._lock:
            key = k, filter_seen, allowed is not None
            if key not in self._recorded:
                self._recorded[key] = self._recorded_rank(*key)
            run, best = self._recorded[key]
            self._memory.copy_(memory)
            if allowed is not None:
                self._allowed.copy_(allowed)
            run()
            return _numbers(best)

    def _recorded_rank(self, k: int, filter_seen: bool, some: bool) -> tuple[Callable[[], None], Tensor]:
        kept, best = self.kept(self._memory), torch.empty(2, k, dtype=torch.float64, device=self._device)
        allowed = self._allowed if some else None
        return _recorded(lambda: self._rank_into(best, kept, k, filter_seen, allowed), self._device), best

    def _read_into(self, kept: Kept) -> None:
        after = replace(kept)
        self._read(after, self._item, self._columns)
        _copy(kept, after)

    def _rank_into(self, best: Tensor, kept: Kept, k: int, filter_seen: bool, allowed: Tensor | None) -> None:
        for part, found in zip(best, self._rank(kept, k, filter_seen, allowed), strict=True):
            part.copy_(found)


def _recorded(function: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The function as a graph, or itself where it cannot be recorded, which a model of one's own may cause."""
    try:
        return recorded(function, device)
    except NotRecorded as error:
        getLogger().warning(f"steps of sessions are not recorded as CUDA graphs, and so are slow: {error}")
        return function


def _parts(kept: Kept) -> list[Tensor]:
    return [kept.hidden, kept.seen, kept.latest, *leaves(kept.state)]


def _copy(to: Kept, kept: Kept) -> None:
    for before, after in zip(_parts(to), _parts(kept), strict=True):
        before.copy_(after)


def _numbers(best: Tensor) -> tuple[list[float], list[int]]:
    scores, items = best.tolist()
    return scores, [int(item) for item in items]
