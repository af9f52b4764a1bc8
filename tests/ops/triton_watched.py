"""Watches every address that kernels touch in Triton's interpreter: a GPU may read and write beyond tensors unseen."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from triton.runtime import interpreter


def _runs(tensors: list[torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of bytes that belong to these tensors begin and end, in order."""
    bytes_ = [np.zeros(0, np.int64)]
    for tensor in tensors:
        places = torch.zeros(tensor.shape, dtype=torch.int64)
        for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            shape = [1] * tensor.dim()
            shape[axis] = size
            places += torch.arange(size).view(shape) * stride
        at = tensor.data_ptr() + places.numpy().reshape(-1, 1) * tensor.element_size()
        bytes_.append((at + np.arange(tensor.element_size())).reshape(-1))
    each = np.unique(np.concatenate(bytes_))
    starts = np.flatnonzero(np.diff(each, prepend=-2) > 1)
    return each[starts], each[np.append(starts[1:], len(each)) - 1] + 1 if len(each) else each


class Launch:
    """One launch of a kernel.

    Args:
        name: of the kernel, for messages.
        arguments: of the kernel.
    """

    def __init__(self, name: str, arguments: list[object]):
        self._name = name
        self._starts, self._ends = _runs([each for each in arguments if isinstance(each, torch.Tensor)])
        self._touched: dict[str, list[np.ndarray]] = {"reads": [], "writes": []}

    def touch(self, kind: str, addresses: np.ndarray, mask: np.ndarray, size: int) -> None:
        """Raise AssertionError unless each element lies in a tensor, and no two lanes write the same."""
        at = addresses[np.broadcast_to(mask.astype(bool), addresses.shape)].astype(np.int64).reshape(-1)
        if not len(at):
            return
        run = np.searchsorted(self._starts, at, side="right") - 1
        inside = (run >= 0) & (at + size <= (self._ends[run] if len(self._ends) else at))
        assert inside.all(), f"{self._name} {kind} beyond its tensors, in program {self._program()}"
        each = np.unique(at)
        assert kind == "reads" or len(each) == len(at), f"{self._name} writes an element twice at once"
        self._touched[kind].append(np.stack([each, np.full_like(each, self._program())], 1))

    def finish(self) -> None:
        """Raise AssertionError if a program reads or writes what another one writes."""
        writes, reads = (
            np.unique(np.concatenate([np.zeros((0, 2), np.int64), *self._touched[kind]]), axis=0)
            for kind in ("writes", "reads")
        )
        written = writes[:, 0]
        assert len(np.unique(written)) == len(written), f"{self._name}: two programs write the same element"
        shared = reads[np.isin(reads[:, 0], written)]
        by = writes[np.searchsorted(written, shared[:, 0]), 1]
        assert (by == shared[:, 1]).all(), f"{self._name}: a program reads what another one writes"

    @staticmethod
    def _program() -> int:
        x, y, z = interpreter.interpreter_builder.grid_idx
        return (x << 40) + (y << 20) + z


@contextmanager
def launches() -> Iterator[list[tuple[str, tuple[bool, ...]]]]:
    """Yield what grows by each launch: the kernel, and whether each tensor begins at an aligned address.

    For each such pattern a kernel is compiled anew.
    """
    found: list[tuple[str, tuple[bool, ...]]] = []
    call = interpreter.GridExecutor.__call__

    def noting_call(self, *arguments, **options):
        given = [*arguments, *options.values()]
        aligned = tuple(each.data_ptr() % 16 == 0 for each in given if isinstance(each, torch.Tensor))
        found.append((self.fn.__name__, aligned))
        call(self, *arguments, **options)

    with patch.object(interpreter.GridExecutor, "__call__", noting_call):
        yield found


@contextmanager
def watched() -> Iterator[None]:
    """Within the block each launch is watched; an AssertionError ends the first that does what it must not."""
    builder, executor = interpreter.InterpreterBuilder, interpreter.GridExecutor
    load, store, call = builder.create_masked_load, builder.create_masked_store, executor.__call__
    launches: list[Launch] = []

    def watched_load(self, ptrs, mask, *others):
        launches[-1].touch("reads", ptrs.data, mask.data, ptrs.get_element_ty().primitive_bitwidth // 8)
        return load(self, ptrs, mask, *others)

    def watched_store(self, ptrs, value, mask, *others):
        launches[-1].touch("writes", ptrs.data, mask.data, ptrs.get_element_ty().primitive_bitwidth // 8)
        return store(self, ptrs, value, mask, *others)

    def watched_call(self, *arguments, **options):
        launches.append(Launch(self.fn.__name__, [*arguments, *options.values()]))
        call(self, *arguments, **options)
        launches.pop().finish()

    with (
        patch.object(builder, "create_masked_load", watched_load),
        patch.object(builder, "create_masked_store", watched_store),
        patch.object(executor, "__call__", watched_call),
    ):
        yield
