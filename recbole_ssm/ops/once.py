"""What follows from the borders of a batch, and checks of its values: once for a batch rather than in each op.

Each op derives what it needs from ``cu_seqlens``, and checks what it gets: it can be called alone. Within
:func:`once_a_batch` the same function of the same tensors is computed once, so that ten layers do it once, too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

_kept: ContextVar[dict[Hashable, tuple[Any, Any]] | None] = ContextVar("kept", default=None)
"""Arguments and results of a batch; None outside of one. The arguments are kept so that no tensor gets their ``id``."""


@contextmanager
def once_a_batch() -> Iterator[None]:
    """Keep results of functions that are marked by :func:`once`, for the time of a ``with`` block or of a function.

    A block within another shares with it.

    Yields:
        Nothing.
    """
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def once(function: Callable[P, T]) -> Callable[P, T]:
    """Decorator of a function of tensors and of values that can be hashed; nobody may change its result.

    A tensor that was changed in place counts as another one.
    """

    @wraps(function)
    def wrapped(*arguments: P.args, **options: P.kwargs) -> T:
        kept = _kept.get()
        if kept is None or getattr(torch.compiler, "is_exporting", bool)():  # sizes of a graph are no keys
            return function(*arguments, **options)
        given = *arguments, *options.items()
        key = (function, torch.is_inference_mode_enabled(), *map(_identity, given))
        if key not in kept:
            kept[key] = given, function(*arguments, **options)
        return kept[key][1]

    return wrapped


def _identity(value: Any) -> Hashable:
    if isinstance(value, tuple):
        return tuple(map(_identity, value))
    if not isinstance(value, Tensor):
        return value
    return id(value), None if value.is_inference() else value._version
