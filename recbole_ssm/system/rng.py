"""All random numbers that a training draws: taken down, and put back."""

from __future__ import annotations

import random

import numpy as np
import torch


def random_state() -> dict:
    """The state of Python's, numpy's and torch's generators, in plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, internal, next_gauss = random.getstate()
    return {
        "python": [version, list(internal), next_gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: dict) -> None:
    """Go on with the numbers that followed :func:`random_state`; those of a GPU only where one is used.

    What is none may raise any error.
    """
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal), next_gauss))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    if not isinstance(kind, str) or not 0 <= int(position) <= len(keys):  # numpy would read beyond them
        raise ValueError("it is no state of numpy's generator")
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), int(position), int(has_gauss), float(gauss)))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_initialized() and len(state["cuda"]) == 1:
        torch.cuda.set_rng_state(state["cuda"][0].cpu())
