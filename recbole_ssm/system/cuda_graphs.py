"""CUDA graphs: many small kernels, recorded once and then launched as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class NotRecorded(RuntimeError):
    """Something was called that cannot be recorded, such as a copy to the host."""


def recorded(
    function: Callable[[], None], device: torch.device, *, calls_before: int = 3, pool: Any = None
) -> Callable[[], None]:
    """A function as a CUDA graph; on other devices the function itself.

    Args:
        function: reads and writes the same tensors in each call, and never waits for the GPU.
        device: where it computes.
        calls_before: how often it is called before it is recorded: libraries and compilers prepare themselves in the
            first calls. 0 if it has been called.
        pool: memory that several graphs share, by ``torch.cuda.graph_pool_handle``; None for memory of its own.

    Returns:
        What does the same on the GPU as the function. Recording itself computes nothing.

    Raises:
        NotRecorded: the function waits for the GPU, or does something else that no graph can do.
    """
    if device.type != "cuda":
        return function
    with torch.cuda.device(device):
        aside, now = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            for _ in range(calls_before):
                function()
        now.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                function()
        except RuntimeError as error:
            raise NotRecorded(str(error).splitlines()[0]) from error
    return graph.replay
