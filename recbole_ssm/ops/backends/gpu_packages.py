"""The kernels of the packages mamba-ssm and causal-conv1d on a GPU, over packed streams by way of ``seq_idx``."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from recbole_ssm.ops.backends.base import Backend, Kernel
from recbole_ssm.ops.backends.one_direction import reads_backwards_by_flipping
from recbole_ssm.ops.packing import flip_borders, sequence_index


@cache
def installed() -> bool:
    """Whether both packages are there."""
    return find_spec("mamba_ssm") is not None and find_spec("causal_conv1d") is not None


def _missing() -> str | None:
    return None if installed() else "install mamba-ssm and causal-conv1d"


def takes(tensor: Tensor) -> bool:
    """Whether the kernels compute with a tensor like this."""
    return tensor.is_cuda and tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)


def _without_states(
    *_: Tensor,
    D: Tensor | None,
    reverse: bool,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> bool:
    return initial_state is None and not return_final_state


@reads_backwards_by_flipping
def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    D: Tensor | None,
    initial_state: None,
    return_final_state: bool,
) -> Tensor:
    """``ssd`` from and to no state. Chunks of 256 tokens, as in ``mamba_ssm.Mamba2``."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    seq_idx = sequence_index(cu_seqlens, len(x))[None]
    x, dt, B, C = (tensor[None].contiguous() for tensor in (x, dt, B, C))
    return mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size=256, D=D, seq_idx=seq_idx).squeeze(0)


def _has_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, ahead: int, activation: str | None
) -> bool:
    """Whether causal-conv1d has such a convolution: 2 to 4 taps, in one direction, channels in multiples of 8."""
    channels, width = weight.shape
    return width in (2, 3, 4) and ahead in (0, width - 1) and channels % 8 == 0


def conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, cu_seqlens: Tensor, *, ahead: int, activation: str | None
) -> Tensor:
    """``depthwise_conv1d``, all taps before a token or all behind it."""
    from causal_conv1d import causal_conv1d_fn

    if ahead:  # the other way: the mirrored stream and mirrored taps
        x, weight, cu_seqlens = x.flip(0), weight.flip(1), flip_borders(cu_seqlens)
    seq_idx = sequence_index(cu_seqlens, len(x))[None]
    rows = x.contiguous()[None].mT  # (1, C, T), channels side by side, as it wants them for seq_idx
    y = causal_conv1d_fn(rows, weight.contiguous(), bias, seq_idx=seq_idx, activation=activation).squeeze(0).T
    return y.flip(0) if ahead else y


GPU_PACKAGES = Backend(
    name="mamba_ssm",
    kernels={"ssd": Kernel(ssd, _without_states), "conv1d": Kernel(conv1d, _has_convolution)},
    takes=takes,
    missing=_missing,
)
