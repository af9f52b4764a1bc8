"""Which GPUs this process sees: those of ``CUDA_VISIBLE_DEVICES``, or those of the key ``gpu_id``."""

from __future__ import annotations

import os
import re
from typing import Any

import torch

from recbole_ssm.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def named_gpus(gpu_id: Any) -> str:
    """A value of ``gpu_id`` as ``CUDA_VISIBLE_DEVICES`` has it; empty for none.

    Raises:
        InputError: it names none.
    """
    names = [str(part).strip() for part in (gpu_id if isinstance(gpu_id, list | tuple) else str(gpu_id).split(","))]
    if names != [""] and not all(re.fullmatch(r"\d+|(GPU|MIG)-\S+", name) for name in names):
        raise InputError(f"gpu_id must be the number of a GPU, or several such as '0,1', but is {gpu_id!r}")
    return ",".join(names)


def show_gpus(gpus: str) -> str | None:
    """Let this process see these GPUs and no others.

    Returns:
        What the user should know of it, or None.
    """
    before = os.environ.get(VISIBLE)
    if before == gpus:
        return None
    if torch.cuda.is_initialized():
        return f"gpu_id {gpus} does nothing, since this process uses a GPU already; set {VISIBLE} before it starts"
    os.environ[VISIBLE] = gpus
    return None if before is None else f"gpu_id {gpus} takes the place of {VISIBLE}={before}"
