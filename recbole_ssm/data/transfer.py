"""Tensors on their way to a GPU: in one copy, for which the host does not wait.

RecBole moves a batch field by field out of pageable memory. Each such copy waits until the GPU has done all that it was
asked to do before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_ssm.data.shares import SHARE

_ALIGNED = 16
"""Each tensor begins at a multiple of so many bytes. Kernels are compiled anew for another alignment."""


def moved(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Tensors of a CPU on another device, as views of one buffer; on a GPU they come out of pinned memory.

    Args:
        tensors: of any shapes and types, one at least.
        device: where they go.

    Returns:
        The tensors, in their order.
    """
    pieces, sizes = [], []
    for tensor in tensors:
        values = tensor.contiguous().view(-1).view(torch.uint8)
        pieces += [values, _FILLING[: -len(values) % _ALIGNED]]
        sizes += [len(values), len(pieces[-1])]
    buffer = torch.empty(sum(sizes), dtype=torch.uint8, pin_memory=device.type == "cuda")
    there = torch.cat(pieces, out=buffer).to(device, non_blocking=True).split_with_sizes(sizes)[::2]
    return [piece.view(tensor.dtype).view(tensor.shape) for piece, tensor in zip(there, tensors, strict=True)]


_FILLING = torch.zeros(_ALIGNED, dtype=torch.uint8)


def on_device(batch: Interaction, device: torch.device) -> Interaction:
    """A batch on a device; its field :data:`SHARE` stays where it is, because the host reads it.

    Args:
        batch: some of its fields may be there already.
        device: where it is to be; a GPU without a number is the current one.

    Returns:
        A batch with the same fields in the same order, or this one where nothing is to be moved.
    """
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    fields = batch.interaction
    left = {name: value for name, value in fields.items() if name != SHARE and not _is_on(value, device)}
    if not left:
        return batch
    together = [name for name, value in left.items() if value.device.type == "cpu"]
    if together:
        left |= zip(together, moved([left[name] for name in together], device), strict=True)
    found = Interaction(fields | {name: value.to(device, non_blocking=True) for name, value in left.items()})
    found.length = batch.length
    return found


def _is_on(tensor: Tensor, device: torch.device) -> bool:
    here = tensor.device
    return here.type == device.type and here.index in (None, device.index)


class KeptBatches:
    """Batches of an evaluation that are the same each time: collated once and then kept on the device.

    Args:
        device: where they are kept.
        limit: how many bytes they may have. Where they have more, none is kept.
    """

    def __init__(self, device: torch.device, limit: int):
        self._device, self._limit = device, limit
        self._kept: list[Any] | None = None

    def of(self, batches: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """Yield the batches on the device: those that are kept, once all were read to the end.

        Args:
            batches: gives those of a loader for full ranking: interaction, history, users and items of positives.
        """
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Any] = []
        used = 0
        for batch in batches():
            there = self._moved(batch)
            used += size(*there[0].interaction.values(), *(there[1] or ()), *there[2:])
            if used <= self._limit:
                kept.append(there)
            yield there
        if used <= self._limit:
            self._kept = kept

    def _moved(self, batch: tuple[Interaction, tuple[Tensor, Tensor] | None, Tensor, Tensor]) -> tuple[Any, ...]:
        interaction, history, *positive = batch
        *seen, users, items = moved([*(history or ()), *positive], self._device)
        return on_device(interaction, self._device), tuple(seen) or None, users, items


def size(*tensors: Tensor) -> int:
    """The bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def spare_bytes(device: torch.device) -> int:
    """How many bytes of a GPU data may take that are kept there: an eighth of what is free."""
    free, _ = torch.cuda.mem_get_info(device)
    return free // 8
