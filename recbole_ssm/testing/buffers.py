"""Memory that was allocated and never written, made visible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def unwritten_memory_is_nan() -> Iterator[None]:
    """Within the block ``torch.empty`` and all that allocates like it give NaN, or the largest whole number.

    What is allocated often holds zeros by chance, and code that forgets to write it passes its tests. NaN shows. The
    block turns on torch's deterministic algorithms, of which this is a part; ops that have none warn.

    Yields:
        Nothing.
    """
    # torch.use_deterministic_algorithms does the same, and imports torch's compiler first, which takes seconds.
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic: Any = torch.utils.deterministic
    filled = deterministic.fill_uninitialized_memory
    deterministic.fill_uninitialized_memory = True
    torch._C._set_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch._C._set_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic.fill_uninitialized_memory = filled
