"""Several processes, as ``torchrun`` starts them: who they are, what they share, and what they tell one another."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from recbole_ssm.errors import InputError
from recbole_ssm.system.gpus import VISIBLE

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others, one of which may be reading data or evaluating."""


def world_size() -> int:
    """How many processes there are; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def join(use_gpu: bool) -> torch.device:
    """Meet the others, over NCCL where each has a GPU, else over gloo.

    Returns:
        The device of this process.

    Raises:
        InputError: there are GPUs, but fewer of them to be seen than processes on this machine.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count() if use_gpu and torch.cuda.is_available() else 0
    if 0 < gpus <= local:
        raise InputError(
            f"{os.environ.get('LOCAL_WORLD_SIZE', world_size())} processes for {gpus} GPUs"
            + (f" (CUDA_VISIBLE_DEVICES={os.environ[VISIBLE]})" if VISIBLE in os.environ else "")
            + "; start as many as there are GPUs, or say --use_gpu=False"
        )
    if gpus:
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpus else "gloo", timeout=_PATIENCE)
    return torch.device("cuda", local) if gpus else torch.device("cpu")


def everyones(value: Any) -> list:
    """The value that each process has, by rank; all processes must ask."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def of_first(value: Any) -> Any:
    """The value that the first process has; all processes must ask."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def greatest(number: int) -> int:
    """The greatest number that any process has; all processes must ask."""
    if world_size() == 1:
        return number
    value = torch.tensor(number, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)
