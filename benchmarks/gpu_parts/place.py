"""Where a part computes, how long it may, and where what it finds goes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gpu_parts.files import write


class Skipped(Exception):
    """Something cannot be measured here; the message says why."""


@dataclass
class Place:
    """Where a part computes.

    Attributes:
        device: of all tensors.
        tiny: whether sizes are to take no time.
        data: folder of datasets.
        until: when it is to be done, as ``time.time()`` says it.
        file: where its results go.
        result: what it has found so far.
    """

    device: torch.device
    tiny: bool
    data: Path
    until: float
    file: Path
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"

    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.time()

    def note(self, name: str, value: Any) -> None:
        """Add to what has been found, and write it."""
        self.result[name] = value
        write(self.file, self.result)

    def attempt(self, name: str, measure: Callable[..., Any], *arguments: Any) -> Any:
        """Note what a function returns, or why it could not; and return that."""
        self.note(name, value := self.tried(measure, *arguments))
        return value

    def tried(self, measure: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns, or why it could not."""
        try:
            if self.left() < 2:
                raise Skipped("no time was left")
            value = measure(*arguments)
        except Skipped as why:
            value = {"skipped": str(why)}
        except Exception as error:
            traceback.print_exc()
            value = {"failed": in_one_line(error)}
        if self.on_gpu:
            torch.cuda.empty_cache()
        return value

    def dataset(self, name: str) -> tuple[str, dict[str, Any]]:
        """The dataset to take for this one, and the keys that find it; Skipped where it is not there."""
        if self.tiny:
            return "synthetic-900", {"data_path": str(self.data)}
        if name == "ml-100k":  # comes with RecBole
            return name, {}
        if not (self.data / name / f"{name}.inter").is_file():
            raise Skipped(f"{self.data / name} has no {name}.inter")
        return name, {"data_path": str(self.data)}

    def needs_gpu(self) -> None:
        """Skipped where there is none."""
        if not self.on_gpu:
            raise Skipped("it needs a GPU")


def in_one_line(error: BaseException) -> str:
    """What went wrong, at most 300 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
