"""Processes that ``torchrun`` starts: the rank and world size of each, and collective operations between them.

Every collective must be called by all processes. With a world size of 1 it returns its argument.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from recbole_ssm.errors import InputError
from recbole_ssm.system.environment import VISIBLE_GPUS

_TIMEOUT = timedelta(minutes=30)
"""How long a process waits in a collective. Another one may be reading data or evaluating."""

Value = TypeVar("Value")


def world_size() -> int:
    """The number of processes; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def init_process_group(use_gpu: bool) -> torch.device:
    """Connect the processes: over NCCL where each has a GPU, else over gloo.

    Args:
        use_gpu: whether to use GPUs where there are some.

    Returns:
        The device of this process.

    Raises:
        InputError: there are visible GPUs, but fewer than processes on this machine.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.device_count() if use_gpu and torch.cuda.is_available() else 0
    if 0 < gpus <= local_rank:
        visible = f" ({VISIBLE_GPUS}={os.environ[VISIBLE_GPUS]})" if VISIBLE_GPUS in os.environ else ""
        raise InputError(
            f"{os.environ.get('LOCAL_WORLD_SIZE', world_size())} processes for {gpus} GPUs{visible}; start as many "
            "processes as there are GPUs, or set --use_gpu=False"
        )
    if gpus:
        torch.cuda.set_device(local_rank)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if gpus else "gloo", timeout=_TIMEOUT)
    return torch.device("cuda", local_rank) if gpus else torch.device("cpu")


def all_gather(value: Value) -> list[Value]:
    """The values of all processes, by rank. They are pickled."""
    if world_size() == 1:
        return [value]
    values: list[Value] = [value] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast(value: Value) -> Value:
    """The value of rank 0. It is pickled."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def all_reduce_max(number: int) -> int:
    """The largest number of any process."""
    if world_size() == 1:
        return number
    value = torch.tensor(number, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return int(value)


def barrier() -> None:
    """Wait until all processes have come here."""
    all_reduce_max(0)
