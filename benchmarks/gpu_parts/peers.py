"""SSD beside other packages for the same recurrence: mamba-ssm, and flash-linear-attention, which tunes for long."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpu_parts.mixers import FIRST, PYTORCH, backend, both_ways, lines, rated, scan, sizes, words
from gpu_parts.place import Place, Skipped
from gpu_parts.timing import compare

__all__ = ["lines", "measure"]


def measure(place: Place) -> None:
    """In float32 and bfloat16, the widest."""
    for dtype in (torch.float32, torch.bfloat16):
        width, kind = sizes(place)[0]
        name = f"SSD, {words(width, kind)}, {str(dtype).removeprefix('torch.')}"
        place.attempt(name, _beside, place, width, kind, dtype)


def _beside(place: Place, width: int, kind: str, dtype: torch.dtype) -> dict[str, Any]:
    scans, inputs, borders = scan(place, width, kind, dtype)
    if place.on_gpu:
        del scans[PYTORCH]
    scans["mamba-ssm"] = backend("mamba_ssm", inputs, borders)
    scans["flash-linear-attention"] = lambda: _simple_gla(inputs, borders)
    variants = {name: both_ways(run, list(inputs.values())) for name, run in scans.items()}
    found = compare(place, variants, FIRST if place.on_gpu else PYTORCH)
    rated(found, scans, inputs, borders)
    return found


def _simple_gla(inputs: dict[str, Tensor], borders: Tensor) -> Tensor:
    """SSD as gated linear attention: k = B, q = C, v = dt x, decay dt A."""
    try:
        from fla.ops.simple_gla import chunk_simple_gla
    except ImportError as error:
        raise Skipped(f"flash-linear-attention cannot be imported: {error}") from error
    if not borders.is_cuda:
        raise Skipped("it needs a GPU")
    x, dt, A, B, C, D = inputs.values()
    q, k = (t.expand(-1, x.shape[1], -1)[None].contiguous() for t in (C, B))
    v, g = (dt[..., None] * x).to(x.dtype)[None], (dt * A)[None]
    y, _ = chunk_simple_gla(q, k, v, g=g, scale=1.0, cu_seqlens=borders.long())
    return (y[0] + D[:, None] * x).to(x.dtype)
