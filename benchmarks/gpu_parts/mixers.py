"""Throughput of mixers alone, forward and backward: SSD beside causal attention, over the same packed tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gpu_parts import attention
from gpu_parts.place import Place, Skipped
from gpu_parts.streams import at_least_float32, borders_like, scan_inputs
from gpu_parts.tables import number, reasons, table
from gpu_parts.timing import Variants, compare, seconds_of
from recbole_ssm.ops import ssd, use_backend
from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.ops.backends.triton.backend import TRITON

SIZES = {64: {"H": 8, "P": 16, "N": 32}, 256: {"H": 32, "P": 16, "N": 64}}
"""Of SSD, by the model's width: 2Mamba4Rec's recipe, and SSD4Rec's paper."""

LENGTHS = {"ml": "MovieLens's lengths", "am": "Amazon's lengths"}
FIRST, PYTORCH = "ours, Triton", "ours, PyTorch"


def measure(place: Place) -> None:
    """The peak, then mixers; the widest first."""
    place.attempt("peak", _peak, place)
    for width, kind in sizes(place):
        for dtype in (torch.float32, torch.bfloat16)[: 1 if place.tiny else 2]:
            place.attempt(f"SSD, {words(width, kind)}, {_name(dtype)}", _mixers, place, width, kind, dtype)


def sizes(place: Place) -> list[tuple[int, str]]:
    """Widths and kinds of lengths."""
    return [(64, "ml")] if place.tiny else [(256, "ml"), (64, "ml"), (256, "am")]


def words(width: int, kind: str) -> str:
    return f"width {width}, {LENGTHS[kind]}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _peak(place: Place) -> dict[str, float]:
    """TFLOP/s of a product of two square matrices."""
    size, found = (64 if place.tiny else 8192), {}
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bfloat16", torch.bfloat16, "highest"),
    ):
        torch.set_float32_matmul_precision(precision)
        a, b = (torch.randn(size, size, device=place.device, dtype=dtype) for _ in range(2))
        seconds_of(place, lambda a=a, b=b: a @ b, 3)
        found[name] = 2 * size**3 / seconds_of(place, lambda a=a, b=b: a @ b, 3 if place.tiny else 10) / 1e12
    torch.set_float32_matmul_precision("highest")
    return found


def _mixers(place: Place, width: int, kind: str, dtype: torch.dtype) -> dict[str, Any]:
    """Forward and backward of SSD, and of attention of the same width, over one stream."""
    scans, inputs, borders = scan(place, width, kind, dtype)
    T, first = int(borders[-1]), (width, kind, dtype) == (*sizes(place)[0], torch.float32)
    if not first:
        del scans[PYTORCH]  # which takes a hundred times as long
    qkv = [torch.randn((T, width // 32, 32), device=place.device, dtype=dtype, requires_grad=True) for _ in range(3)]
    variants = {name: both_ways(run, list(inputs.values())) for name, run in scans.items()}
    variants |= {name: both_ways(run, leaves) for name, run, leaves in attention.variants(qkv, borders)}
    found = compare(place, variants, FIRST if place.on_gpu else PYTORCH)
    peak = place.result.get("peak", {}).get("tf32" if dtype == torch.float32 else "bfloat16")
    rated(found, scans, inputs, borders)
    for name, each in found.items():
        if "seconds" in each and name in scans:
            each["share_of_peak"] = peak and _flop(T, kind, **SIZES[width]) / each["seconds"] / 1e12 / peak
    return found


def scan(place: Place, width: int, kind: str, dtype: torch.dtype) -> tuple[Variants, dict[str, Tensor], Tensor]:
    """SSD on a stream: by the names of backends, its inputs, and borders."""
    borders = borders_like(kind, 64 if place.tiny else 65_536, place.device)
    inputs = {
        name: tensor.to(at_least_float32(name, dtype)).requires_grad_()
        for name, tensor in scan_inputs(int(borders[-1]), **SIZES[width], device=place.device).items()
    }
    return {FIRST: backend("triton", inputs, borders), PYTORCH: backend("torch", inputs, borders)}, inputs, borders


def rated(found: dict[str, dict], scans: Variants, inputs: dict[str, Tensor], borders: Tensor) -> None:
    """Add tokens per second to what was found, and of the scans the largest relative error."""
    with torch.no_grad():
        exact = backend("torch", {name: t.detach().double() for name, t in inputs.items()}, borders)()
    for name, each in found.items():
        if "seconds" in each:
            each["tokens_per_second"] = int(borders[-1]) / each["seconds"]
        if "seconds" in each and name in scans:
            each["error"] = _error(scans[name], exact)


def backend(name: str, inputs: dict[str, Tensor], borders: Tensor) -> Callable[[], Tensor]:
    """SSD on a backend; Skipped where that has no such kernel."""

    def run() -> Tensor:
        if name == "mamba_ssm" and (missing := GPU_PACKAGES.missing()):
            raise Skipped(missing)
        if name == "triton" and not TRITON.computes("ssd", *inputs.values()):
            raise Skipped(TRITON.missing() or "it needs a GPU")
        with use_backend(name):
            given = (inputs[key] for key in ("x", "dt", "A", "B", "C"))
            return ssd(*given, borders, D=inputs["D"])

    return run


def both_ways(run: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], None]:
    """Forward and backward, without adding up gradients from call to call."""
    kept: list[Tensor] = []

    def step() -> None:
        y = run()
        if not kept:
            kept.append(torch.randn_like(y))
        torch.autograd.grad(y, leaves, kept[0], allow_unused=True)

    return step


@torch.no_grad()
def _error(run: Callable[[], Tensor], exact: Tensor) -> float:
    return float((run().double() - exact).abs().max() / exact.abs().max())


def _flop(T: int, kind: str, H: int, P: int, N: int) -> float:
    """Of the recurrence by chunks, forward and backward, as ``benchmarks/ops.py`` counts them."""
    E, Q = H * P, 64 if kind == "ml" else 8
    return 2 * T * (E * (0.5 * Q + 2 * N) + E * (1.5 * Q + 4 * N) + 4 * Q * N)


def lines(result: dict) -> list[str]:
    """A table for each size."""
    found = []
    if "bfloat16" in (peak := result.get("peak", {})):
        each = ", ".join(f"{name} {value:.0f}" for name, value in peak.items())
        found += [f"Peak of a matrix product, TFLOP/s: {each}."]
    heads = ["", "thousand tokens/s", "times as long", "GiB", "error", "share of peak"]
    for name, each in result.items():
        rows = [
            [
                variant,
                number(_thousand(one), ",.0f"),
                number(one.get("times_as_long"), ".2f"),
                number(one.get("gib"), ".2f"),
                number(one.get("error"), ".0e"),
                number(one.get("share_of_peak"), ".1%"),
            ]
            for variant, one in each.items()
            if isinstance(one, dict)
        ]
        found += ["", *table([name, *heads[1:]], rows), *reasons(each)] if rows else []
    return [*found, *reasons(result)]


def _thousand(one: dict) -> object:
    return one["tokens_per_second"] / 1e3 if "tokens_per_second" in one else one
