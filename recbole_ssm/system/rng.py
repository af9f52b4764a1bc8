"""The state of all random number generators that a training draws from: save, restore, and set for a while."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_state() -> dict[str, Any]:
    """The state of Python's, numpy's and torch's generators, in plain values and tensors."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, internal, next_gauss = random.getstate()
    return {
        "python": [version, list(internal), next_gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set all generators to a state; that of a GPU only where one is used.

    Args:
        state: from :func:`random_state`. Another dict can raise any error.
    """
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    if not isinstance(kind, str) or not 0 <= int(position) <= len(keys):  # numpy would read beyond the keys
        raise ValueError("it is no state of numpy's generator")
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), int(position), int(has_gauss), float(gauss)))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_initialized() and len(state["cuda"]) == 1:
        torch.cuda.set_rng_state(state["cuda"][0].cpu())


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seed numpy's global generator within this context, and restore its state after it."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
