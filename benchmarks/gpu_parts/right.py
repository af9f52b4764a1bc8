"""Are the kernels right: every op of every backend against its formula, and on long streams against float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch
from torch import Tensor

from gpu_parts.children import in_parallel
from gpu_parts.place import Place, Skipped, in_one_line
from gpu_parts.streams import Problem, long_problems
from gpu_parts.tables import reasons, table
from recbole_ssm.ops.backends import Backend, use_backend
from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.ops.backends.pytorch.backend import PYTORCH
from recbole_ssm.ops.backends.triton.backend import TRITON
from recbole_ssm.testing import check_backend

BACKENDS = {backend.name: backend for backend in (TRITON, GPU_PACKAGES, PYTORCH)}

PRECISIONS = {
    "float32": (torch.float32, False, 1e-5),
    "bfloat16": (torch.bfloat16, False, 2e-2),
    "tf32": (torch.float32, True, 5e-3),
    "float16": (torch.float16, False, 1e-2),
}
"""Number type, whether PyTorch may round factors of products to TF32, and the relative error that is allowed."""

TINY = {
    **dict.fromkeys(("ssd", "selective_scan", "linear_recurrence", "attention"), "lengths (1,)"),
    **{"conv1d": "1 taps, 0 ahead, 8", "cross_entropy": "9 rows, 7 items, biases", "feed_forward": "widths 16"},
}
"""Cases of a rehearsal."""


def measure(place: Place) -> None:
    """Each op of each backend in processes of its own, since one that fails may take the GPU's context with it."""
    jobs = []
    for name, backend in BACKENDS.items():
        ops = [f"{name}/{op}" for op in backend.kernels]
        if missing := backend.missing():
            place.note(name, {"skipped": f"not installed: {missing}"})
        elif place.tiny:
            jobs.append("+".join(ops))
        else:  # kernels are compiled for each number type, one after another in a process
            jobs += [f"{op}@{precision}" for precision in PRECISIONS for op in ops] if backend is TRITON else ops
    in_parallel(place, "right", jobs, workers=2 if place.tiny else 14)


def job(place: Place, names: str) -> None:
    """Ops of backends, ``BACKEND/OP`` in all number types or ``BACKEND/OP@TYPE``, with a + between two of them."""
    interpreted = place.tiny and TRITON.name in names  # tests/ops has their contract, which takes minutes
    half = "float16" if interpreted else "bfloat16"  # Triton's interpreter cannot multiply matrices in bfloat16
    looks = [("long, ", _long), *([] if interpreted else [("", _contract)])]
    for each in names.split("+"):
        name, _, only = each.partition("@")
        for precision in [only] if only else ("float32", half) if place.tiny else PRECISIONS:
            for kind, look in looks:
                _noted(place, name, kind, precision, look)


def _noted(place: Place, name: str, kind: str, precision: str, look: Callable[..., dict]) -> None:
    """Look at an op of a backend in a number type, and note what it finds as it comes."""
    backend, _, op = name.partition("/")
    alone = replace(BACKENDS[backend], kernels={op: BACKENDS[backend].kernels[op]})

    def note(result: dict) -> None:
        place.note(name, place.result.get(name, {}) | {kind + precision: result})

    note(place.tried(look, place, alone, op, precision, note))


@contextmanager
def _tf32(on: bool) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if on else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _NoTime(Exception):
    """There is none for another case."""


def _contract(place: Place, backend: Backend, op: str, precision: str, note: Callable[[dict], None]) -> dict:
    """``check_backend``: the largest error, and what it says where a promise is broken; noted after each case."""
    dtype, tf32, tolerance = PRECISIONS[precision]
    if precision == "tf32":
        place.needs_gpu()
    some = {"dtype": dtype, "device": place.device, "only": TINY.get(op, "") if place.tiny else ""}
    found = {"error": None, "allowed": tolerance, "broken": None, "cases": 0, "all": False}

    def after_case(name: str, error: float) -> None:
        found.update(error=max(error, found["error"] or 0.0), cases=found["cases"] + 1)
        note(found)
        if place.left() < 3:
            raise _NoTime

    with _tf32(tf32), suppress(_NoTime):
        try:
            check_backend(backend, tolerance=tolerance, after_case=after_case, **some)
        except AssertionError as error:
            found.update(error=None, broken=in_one_line(error), cases=0)
            check_backend(backend, tolerance=math.inf, after_case=after_case, **some)
        found["all"] = True
    return found


def _long(place: Place, backend: Backend, op: str, precision: str, note: Callable[[dict], None]) -> dict:
    """The largest error over long streams; of which output, of which problem."""
    dtype, tf32, tolerance = PRECISIONS[precision]
    if precision == "tf32":
        place.needs_gpu()
    found = {"error": 0.0, "allowed": tolerance, "of": None}
    for problem in long_problems(op, place.device, tiny=place.tiny):
        tensors = problem.rounded(dtype)
        with use_backend(PYTORCH), _tf32(False):
            expected = evaluate(problem, {name: exact(tensor) for name, tensor in tensors.items()})
        with use_backend(backend), _tf32(tf32):
            actual = evaluate(problem, tensors)
        for name, error in errors(actual, expected).items():
            if not error <= found["error"]:
                found |= {"error": error, "of": f"{name}, {problem.name}"}
        note(found)
        if place.left() < 5:
            break
    if found["of"] is None and op == "dropout":
        raise Skipped("it has no formula")
    return found


def exact(tensor: Tensor) -> Tensor:
    """The same numbers in float64."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def evaluate(problem: Problem, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Output and all gradients, under a fixed random one of the output."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    y = problem.run(leaves)
    random = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).bfloat16()
    gradients = torch.autograd.grad(y, list(leaves.values()), random.to(y.device, y.dtype))
    return {"y": y.detach()} | {f"grad {name}": each for name, each in zip(leaves, gradients, strict=True)}


def errors(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """For each tensor the largest error over the largest value."""

    def one(found: Tensor, wanted: Tensor) -> float:
        return float((exact(found) - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3))

    return {name: one(actual[name], wanted) for name, wanted in expected.items()}


def lines(result: dict) -> list[str]:
    """A row for each op of each backend: the largest errors; what is above its bound is marked."""
    found: list[str] = [f"{name}: {each['skipped']}" for name, each in result.items() if _skipped(each)]
    rows = [
        [name, *(_cell(each, f"{kind}{precision}") for kind in ("", "long, ") for precision in PRECISIONS)]
        for name, each in sorted(result.items())
        if isinstance(each, dict) and not _skipped(each) and "@" not in name
    ]
    heads = ["largest relative error", *PRECISIONS, *(f"long, {precision}" for precision in PRECISIONS)]
    broken = [
        f"{name}, {precision}: {each[precision]['broken']}"
        for name, each in sorted(result.items())
        for precision in PRECISIONS
        if isinstance(each, dict) and isinstance(each.get(precision), dict) and each[precision].get("broken")
    ]
    failed = [line for name, each in sorted(result.items()) if isinstance(each, dict) for line in reasons({name: each})]
    failed += [
        f"{name}, {line}" for name, each in sorted(result.items()) if isinstance(each, dict) for line in reasons(each)
    ]
    return [*table(heads, rows), *broken, *(line for line in failed if ": skipped: " not in line), *found]


def _skipped(each: object) -> bool:
    return isinstance(each, dict) and "skipped" in each


def _cell(each: dict, key: str) -> str:
    value = each.get(key, {"failed": "not reached"} if "failed" in each else {"skipped": "not asked for"})
    if "failed" in value or "skipped" in value:
        return "–" if "skipped" in value else "failed"
    error = value["error"]
    if error is None:
        return "broken" if value.get("broken") else "kept"
    bad = value.get("broken") or not error <= value["allowed"]
    some = "" if value.get("all", True) else f" ({value['cases']} cases)"
    return (f"**{error:.0e}**" if bad else f"{error:.0e}") + some
