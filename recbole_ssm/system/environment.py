"""Environment variables that this package sets: which GPUs the process sees, and others for the time of a call."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recbole_ssm.errors import InputError

VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"


def parse_gpu_id(gpu_id: object) -> str:
    """Read a value of the key ``gpu_id``.

    Args:
        gpu_id: the number or name of a GPU; several in a list, or separated by commas.

    Returns:
        The value as ``CUDA_VISIBLE_DEVICES`` has it; empty for no GPU.

    Raises:
        InputError: the value names no GPU.
    """
    parts = gpu_id if isinstance(gpu_id, list | tuple) else str(gpu_id).split(",")
    names = [str(part).strip() for part in parts]
    if names != [""] and not all(re.fullmatch(r"\d+|(GPU|MIG)-\S+", name) for name in names):
        raise InputError(f"gpu_id must be the number of a GPU, or several such as '0,1', but is {gpu_id!r}")
    return ",".join(names)


def show_gpus(gpus: str) -> str | None:
    """Let this process see these GPUs and no others.

    Args:
        gpus: from :func:`parse_gpu_id`.

    Returns:
        A note for the user where a variable of theirs is replaced, or where it is too late; else None.
    """
    before = os.environ.get(VISIBLE_GPUS)
    if before == gpus:
        return None
    if torch.cuda.is_initialized():
        return f"gpu_id {gpus} does nothing: this process uses a GPU already; set {VISIBLE_GPUS} before it starts"
    os.environ[VISIBLE_GPUS] = gpus
    return None if before is None else f"gpu_id {gpus} takes the place of {VISIBLE_GPUS}={before}"


def visible_gpus() -> str:
    """The value of ``CUDA_VISIBLE_DEVICES``; empty where it is not set."""
    return os.environ.get(VISIBLE_GPUS, "")


@contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """Set environment variables within this context, or remove those whose value is None; restore them after it."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
