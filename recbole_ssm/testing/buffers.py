"""Memory that was allocated and never written, made visible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from torch import Tensor


@contextmanager
def unwritten_memory_is_nan() -> Iterator[None]:
    """Within the block ``torch.empty``, ``torch.empty_like`` and ``Tensor.new_empty`` give NaN where they give numbers.

    What is allocated often holds zeros by chance, and code that forgets to write it passes its tests. NaN shows.

    Yields:
        Nothing.
    """

    def filled(allocate: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @wraps(allocate)
        def wrapped(*arguments: Any, **options: Any) -> Tensor:
            tensor = allocate(*arguments, **options)
            if tensor.is_floating_point() or tensor.is_complex():
                with torch.no_grad():
                    tensor.fill_(torch.nan)
            return tensor

        return wrapped

    with (
        mock.patch.object(torch, "empty", filled(torch.empty)),
        mock.patch.object(torch, "empty_like", filled(torch.empty_like)),
        mock.patch.object(torch.Tensor, "new_empty", filled(torch.Tensor.new_empty)),
    ):
        yield
