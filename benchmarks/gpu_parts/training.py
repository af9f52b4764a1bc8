"""Real training steps, some of them: the package's trainer with all its hooks, on the first batches of an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from recbole.data.interaction import Interaction

from gpu_parts.place import Place
from recbole_ssm.config.config import Config
from recbole_ssm.training.assembly import Assembly, assemble

SMALL = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 1, "train_batch_tokens": 256}
"""A model of Mamba-2's kind that trains in no time."""

QUIET = {"show_progress": False, "state": "warning"}


class Few:
    """The first batches of a loader, as a loader.

    Args:
        loader: of training data; all its other attributes are available here, too.
        number: of batches.
    """

    def __init__(self, loader: Any, number: int):
        self._loader, self._number = loader, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return min(self._number, len(self._loader))

    def __iter__(self) -> Iterator[Interaction]:
        return islice(iter(self._loader), self._number)


def put_together(place: Place, model: str, dataset: str, files: list[str], keys: dict[str, Any]) -> Assembly:
    """Data, model and trainer on the device of a place."""
    return assemble(Config(model, dataset, files, {**QUIET, "use_gpu": place.on_gpu, **keys}))


def train(assembly: Assembly, steps: int) -> float:
    """Train on the first batches of an epoch; the seconds it took."""
    wait(assembly.config["device"])
    start = time.perf_counter()
    assembly.trainer._train_epoch(Few(assembly.loaders.train, steps), 0)
    wait(assembly.config["device"])
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until a GPU has done all it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
