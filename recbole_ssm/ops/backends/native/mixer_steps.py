"""Steps of mixers in C, each in one call. What a call needs of weights is looked up once for many calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recbole_ssm.ops.backends.base import Kernel
from recbole_ssm.ops.backends.layout import contiguous
from recbole_ssm.ops.backends.native.loading import function, pointers, takes, threads_for_rows
from recbole_ssm.ops.precision import autocast_type

if TYPE_CHECKING:
    from recbole_ssm.ops.mixer_steps import LruWeights, Mamba2Weights, MambaWeights, MixedWeights

_WIDTHS = 16
"""Of a feed-forward network are multiples of this."""


def bind_mamba2(weights: Mamba2Weights, *, eps: float) -> Callable[..., tuple[Tensor, ...]]:
    """The op ``mamba2_step`` with its weights."""
    library, data = function("mamba2_step", 4), pointers(weights)
    (C, W), E, d = weights.conv_weight.shape, len(weights.norm), len(weights.out_proj)

    def step(hidden: Tensor, window: Tensor, state: Tensor, more_dt: Tensor | None) -> tuple[Tensor, ...]:
        hidden, window, state, more_dt = _rows(hidden), _rows(window), _rows(state), contiguous(more_dt)
        (R, H, P, N), given = state.shape, pointers((hidden, window, state, more_dt))
        _check(hidden, (R, d), window.shape == (R, C, W - 1), H * P == E, more_dt is None or more_dt.shape == (R, H))
        sizes = R, d, H, P, N, (C - E) // (2 * N), W, hidden.stride(0), window.stride(0), state.stride(0)
        found = hidden.new_empty(R, d), hidden.new_empty(R, C, W - 1), hidden.new_empty(R, H, P, N)
        library(_Mamba2(*sizes, *given, *data, eps, threads_for_rows(R)), *found)
        return found

    return _keeping(weights, step)


def bind_mamba(weights: MambaWeights) -> Callable[..., tuple[Tensor, ...]]:
    """The op ``mamba_step`` with its weights."""
    library, data = function("mamba_step", 4), pointers(weights)
    (E, W), rank, d = weights.conv_weight.shape, weights.dt_proj.shape[1], len(weights.out_proj)

    def step(hidden: Tensor, window: Tensor, state: Tensor, more_dt: Tensor | None) -> tuple[Tensor, ...]:
        hidden, window, state, more_dt = _rows(hidden), _rows(window), _rows(state), contiguous(more_dt)
        (R, _, N), given = state.shape, pointers((hidden, window, state, more_dt))
        _check(hidden, (R, d), window.shape == (R, E, W - 1), more_dt is None or more_dt.shape == (R, E))
        sizes = R, d, E, N, rank, W, hidden.stride(0), window.stride(0), state.stride(0)
        found = hidden.new_empty(R, d), hidden.new_empty(R, E, W - 1), hidden.new_empty(R, E, N)
        library(_Mamba(*sizes, *given, *data, threads_for_rows(R)), *found)
        return found

    return _keeping(weights, step)


def bind_lru(weights: LruWeights) -> Callable[..., tuple[Tensor, ...]]:
    """The op ``lru_step`` with its weights."""
    library, data = function("lru_step", 3), pointers(weights)
    E, d = len(weights.nu_log), len(weights.out_proj)

    def step(hidden: Tensor, state: Tensor, elapsed: Tensor | None) -> tuple[Tensor, ...]:
        hidden, state, elapsed = _rows(hidden), _rows(state), contiguous(elapsed)
        (R, _), given = state.shape, pointers((hidden, state, elapsed))
        _check(hidden, (R, d), state.shape == (R, E), elapsed is None or elapsed.shape == (R, E))
        found = hidden.new_empty(R, d), state.new_empty(R, E)
        library(_Lru(R, d, E, hidden.stride(0), 2 * state.stride(0), *given, *data, threads_for_rows(R)), *found)
        return found

    return _keeping(weights, step)


def bind_mixed(weights: MixedWeights, *, eps: float, eps_of_network: float) -> Callable[..., Tensor]:
    """The op ``mixed_step`` with its weights."""
    library, data, (E, d) = function("mixed_step", 2), pointers(weights), weights.W1.shape

    def step(mixed: Tensor, hidden: Tensor | None) -> Tensor:
        mixed, hidden = _rows(mixed), None if hidden is None else _rows(hidden)
        R, given = mixed.shape[0], pointers((mixed, hidden))
        _check(mixed, (R, d), hidden is None or hidden.shape == (R, d))
        found, row = mixed.new_empty(R, d), 0 if hidden is None else hidden.stride(0)
        library(_Mixed(R, d, E, mixed.stride(0), row, *given, *data, eps, eps_of_network, threads_for_rows(R)), found)
        return found

    return _keeping(weights, step)


def _takes_states(tensor: Tensor) -> bool:
    """Whether the library computes with a tensor like this, which may be a complex state."""
    return takes(tensor) or (tensor.dtype == torch.complex64 and tensor.is_cpu)


def _fits(*arguments: Any, **options: Any) -> bool:
    """Whether nobody wants gradients, and all weights are in float32 as they were made."""
    return (
        not torch.is_grad_enabled()
        and autocast_type(arguments[-1][0]) is None
        and all(takes(each) and each.is_contiguous() for each in arguments[-1])
    )


def _fits_mixed(*arguments: Any, **options: Any) -> bool:
    return all(width % _WIDTHS == 0 for width in arguments[-1].W1.shape) and _fits(*arguments)


def _kernel(bind: Callable[..., Callable[..., Any]], fits: Callable[..., bool] = _fits, **more: Any) -> Kernel:
    """Without weights that are bound it binds them for one call."""

    def run(*arguments: Any, **options: Any) -> Any:
        return bind(arguments[-1], **options)(*arguments[:-1])

    return Kernel(run, fits, bind=bind, **more)


STEPS = {
    "mamba2_step": _kernel(bind_mamba2),
    "mamba_step": _kernel(bind_mamba),
    "lru_step": _kernel(bind_lru, takes=_takes_states),
    "mixed_step": _kernel(bind_mixed, _fits_mixed),
}
"""By op."""


def _keeping(weights: tuple[Tensor, ...], step: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with what lies where its pointers point to."""
    step.kept = [each.detach() for each in weights]  # type: ignore[attr-defined]
    return step


def _rows(tensor: Tensor) -> Tensor:
    """The tensor (R, ...) of float32 numbers or pairs of them, copied unless each row lies in one piece."""
    if tensor.dtype not in (torch.float32, torch.complex64):
        raise ValueError(f"a step of float32 weights got {tensor.dtype}")
    return tensor if tensor.is_contiguous() or tensor[:1].is_contiguous() else tensor.contiguous()


def _check(first: Tensor, shape: tuple[int, ...], *others: bool) -> None:
    """Raise ValueError unless the first argument has this shape, and others fit."""
    if first.shape != shape or first.dtype != torch.float32 or not all(others):
        raise ValueError("the arguments of a step do not fit its weights")


def _description(name: str, sizes: str, data: str, *numbers: str) -> type[ctypes.Structure]:
    """Mirrors a structure in library.c."""
    fields: list[tuple[str, Any]] = [(each, ctypes.c_int64) for each in sizes.split()]
    fields += [(each, ctypes.c_void_p) for each in data.split()]
    fields += [*((each, ctypes.c_float) for each in numbers), ("threads", ctypes.c_int32)]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_Mamba2 = _description(
    "Mamba2Step",
    "rows width heads headdim states groups taps hidden_row window_row state_row",
    "hidden window state more_dt in_proj conv_weight conv_bias dt_bias A_log D norm out_proj",
    "eps",
)
_Mamba = _description(
    "MambaStep",
    "rows width channels states rank taps hidden_row window_row state_row",
    "hidden window state more_dt in_proj conv_weight conv_bias x_proj dt_proj dt_bias A_log D out_proj",
)
_Lru = _description(
    "LruStep",
    "rows width size hidden_row state_row",
    "hidden state elapsed nu_log theta_log gamma_log in_proj in_bias out_proj out_bias",
)
_Mixed = _description(
    "MixedStep",
    "rows width inner mixed_row hidden_row",
    "mixed hidden norm norm_bias W1 b1 W2 b2 weight bias",
    "eps",
    "eps_of_network",
)
