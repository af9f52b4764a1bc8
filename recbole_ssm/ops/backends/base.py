"""What a backend is: one object that says what it computes, with which tensors, and whether it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

OPS = (
    "ssd",
    "selective_scan",
    "conv1d",
    "cross_entropy",
    "feed_forward",
    "gated_norm",
    "dropout",
    "linear_recurrence",
    "attention",
    "mamba2_step",
    "mamba_step",
    "lru_step",
    "mixed_step",
)
"""What backends compute; PyTorch has all of them. See :class:`Kernel` for their signatures."""


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Kernel:
    """One op of one backend.

    Attributes:
        run: has the signature and the results of the op's function of the same name in :class:`Signatures`.
        fits: called with the same arguments, says whether ``run`` takes them; None: it takes all.
        takes: as :attr:`Backend.takes`, for this op; None: as the backend says.
        bind: for an op whose last argument are weights, a tuple of tensors: makes of these and of the options a
            function of the other arguments, without gradients, that is quicker than ``run``. None: there is none.
    """

    run: Callable[..., Any]
    fits: Callable[..., bool] | None = None
    takes: Callable[[Tensor], bool] | None = None
    bind: Callable[..., Callable[..., Any]] | None = None


@dataclass(frozen=True)
class Backend:
    """Code that computes ops. What it lacks or does not take, PyTorch computes.

    Attributes:
        name: the value of ``ssm_backend`` that selects it.
        kernels: its ops, by their names in :data:`OPS`.
        takes: whether it computes with a tensor of this device and number type. Called with each tensor of real or
            complex numbers among the arguments.
        missing: what to do where it is not installed, in words; None where it is.

    Raises:
        ValueError: a name in ``kernels`` is not in :data:`OPS`, or the name is ``auto``.
    """

    name: str
    kernels: Mapping[str, Kernel]
    takes: Callable[[Tensor], bool]
    missing: Callable[[], str | None] = _nothing

    def __post_init__(self) -> None:
        for op in self.kernels:
            check_op(op)
        if self.name == "auto":
            raise ValueError("auto is not the name of a backend: it chooses one")

    def computes(self, op: str, *tensors: Tensor | None) -> bool:
        """Whether it is installed, has this op, and takes tensors like these (None: not given)."""
        if op not in self.kernels:
            return False
        takes = self.kernels[op].takes or self.takes
        return all(takes(tensor) for tensor in tensors if tensor is not None) and self.missing() is None


def check_op(op: str) -> None:
    """Raise ValueError unless ``op`` is one of :data:`OPS`."""
    if op not in OPS:
        raise ValueError(f"op is one of {', '.join(OPS)}, not {op!r}")
