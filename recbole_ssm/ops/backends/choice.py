"""Which backend computes an op: chosen for a block of code, and within it call by call.

- ``auto``: the fastest that takes the tensors at hand.
- ``torch``: PyTorch alone, on any device and in any number type.
- ``native``: the C library. All ops but attention and the linear recurrence, on a CPU in float32.
- ``mamba_ssm``: the packages mamba-ssm and causal-conv1d. ``ssd`` without states and causal convolutions, on a GPU.
- ``triton``: this package's Triton kernels, on a GPU. All ops but the feed-forward network, dropout, and steps.

What a backend lacks, or does not take, PyTorch computes. Packages may bring more, under the entry point
``recbole_ssm.backends``; these are used only where they are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.base import OPS, Backend, check_op
from recbole_ssm.ops.backends.pytorch.backend import PYTORCH
from recbole_ssm.ops.backends.shipped import SHIPPED
from recbole_ssm.ops.precision import HALF, autocast_type, without_half
from recbole_ssm.system.plugins import load_plugin

ENTRY_POINTS = "recbole_ssm.backends"

_chosen: ContextVar[tuple[Backend, ...]] = ContextVar("chosen", default=SHIPPED)
"""Asked in this order. A new thread starts with ``auto``, which is all that are shipped."""


def _from_packages() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def backend_names() -> tuple[str, ...]:
    """The values of ``ssm_backend``: ``auto``, this package's backends, and those of other packages."""
    own = [backend.name for backend in SHIPPED if backend is not PYTORCH]
    return ("auto", PYTORCH.name, *own, *sorted(_from_packages().keys() - {PYTORCH.name, *own}))


def _named(name: str) -> Backend:
    """The backend of a name, installed or not."""
    for backend in SHIPPED:
        if backend.name == name:
            return backend
    point = _from_packages().get(name)
    if point is None:
        raise ValueError(f"the backend is one of {', '.join(backend_names())}, not {name!r}")
    found = load_plugin(ENTRY_POINTS, "backend", name, point.value)
    if not isinstance(found, Backend) or found.name != name:
        raise ValueError(f"the entry point {name} of {ENTRY_POINTS} must be a Backend of this name: {point.value}")
    return found


def check_backend(name: str) -> None:
    """Raise ValueError unless the backend is known and installed; the message says what to do."""
    if name != "auto":
        _check_installed(_named(name))


def _check_installed(backend: Backend) -> None:
    missing = backend.missing()
    if missing is not None:
        raise ValueError(f"backend {backend.name} is not there: {missing}, or use auto")


@contextmanager
def use_backend(backend: str | Backend) -> Iterator[None]:
    """Run ops on a backend for the time of a ``with`` block, in this thread.

    Args:
        backend: a name, or the object itself.

    Yields:
        Nothing.

    Raises:
        ValueError: the backend is unknown or not installed.
    """
    chosen = SHIPPED
    if backend != "auto":
        found = _named(backend) if isinstance(backend, str) else backend
        _check_installed(found)
        chosen = (found, PYTORCH)
    token = _chosen.set(chosen)
    try:
        yield
    finally:
        _chosen.reset(token)


def choose(op: str, *tensors: Tensor | None) -> str:
    """The backend that computes ``op``, one of :data:`OPS`, on tensors like these (None: not given)."""
    check_op(op)
    return next(backend.name for backend in _chosen.get() if backend.computes(op, *tensors))


def backends_of(device: torch.device) -> dict[str, str]:
    """Which backend each op has on a device in single precision; the linear recurrence is complex."""

    def example(op: str) -> Tensor:
        return torch.empty(0, device=device, dtype=torch.complex64 if op == "linear_recurrence" else torch.float32)

    return {op: choose(op, example(op)) for op in OPS}


def compute(op: str, *arguments: Any, **options: Any) -> Any:
    """Call ``op``, one of :data:`OPS`, on the best backend that takes these arguments."""
    return _find(op, arguments, options).kernels[op].run(*arguments, **options)


def bound(op: str, weights: tuple[Tensor, ...], **options: Any) -> Callable[..., Any]:
    """An op whose last argument are weights, for many calls with the same ones; without gradients it may be quicker.

    Args:
        op: one of :data:`OPS`.
        weights: as they are now. Later changes count where they are made in place.
        **options: of the op.

    Returns:
        A function of the other arguments, which must be on the device and in the number type of the weights.
    """
    if not torch.is_grad_enabled():
        backend = _find(op, (*weights, weights), options)
        bind = backend.kernels[op].bind
        if bind is not None:
            return bind(weights, **options)
    return lambda *arguments: compute(op, *arguments, weights, **options)


def compute_in_float32(op: str, first: Tensor, *others: Any, **options: Any) -> Any:
    """:func:`compute` of half precision in float32; the (first) result comes in the type of the first argument.

    Kernels for GPUs do so within, and get half precision as it is. States stay in float32. Inside, autocast is off.
    """
    arguments = (first, *others)
    has_half = any(tensor.dtype in HALF for tensor in _numbers(arguments, options))
    if not has_half and autocast_type(first) is None:
        return compute(op, *arguments, **options)
    with torch.autocast(first.device.type, enabled=False):
        if has_half and _find(op, arguments, options).name == PYTORCH.name:
            options = {key: without_half(value) for key, value in options.items()}
            result = compute(op, *map(without_half, arguments), **options)
        else:
            result = compute(op, *arguments, **options)
    if isinstance(result, tuple):
        return result[0].to(first.dtype), result[1]
    return result.to(first.dtype)


def compute_in_type(op: str, dtype: torch.dtype, inputs: tuple[Tensor, ...], *others: Any, **options: Any) -> Any:
    """:func:`compute` with the ``inputs``, which come first, in a type; but PyTorch gets them as they are.

    Under autocast PyTorch mixes types by rules of its own, and other backends do not.
    """
    arguments = (*(tensor.to(dtype) for tensor in inputs), *others)
    backend = _find(op, arguments, options)
    if backend.name == PYTORCH.name:
        arguments = (*inputs, *others)
    return backend.kernels[op].run(*arguments, **options)


def _numbers(arguments: tuple[Any, ...], options: dict[str, Any]) -> list[Tensor]:
    """All tensors among the arguments but those of whole numbers, such as ``cu_seqlens``."""
    given = (value for value in (*arguments, *options.values()) if isinstance(value, Tensor))
    return [tensor for tensor in given if tensor.is_floating_point() or tensor.is_complex()]


def _find(op: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Backend:
    """The first of the chosen backends that takes these arguments."""
    tensors = _numbers(arguments, options)
    for backend in _chosen.get():
        if backend.computes(op, *tensors):
            fits = backend.kernels[op].fits
            if fits is None or fits(*arguments, **options):
                return backend
    raise NotImplementedError(f"no backend computes {op} with these arguments")
