"""The kernels of the mamba-ssm and causal-conv1d packages on a GPU, over packed streams by way of ``seq_idx``."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from recbole_ssm.ops.packing import flip_borders, sequence_index


@lru_cache(maxsize=1)
def installed() -> bool:
    """Whether both packages are there."""
    return find_spec("mamba_ssm") is not None and find_spec("causal_conv1d") is not None


def takes(*tensors: Tensor | None) -> bool:
    """Whether the kernels compute with tensors like these."""
    given = [tensor for tensor in tensors if tensor is not None]
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    return all(tensor.is_cuda and tensor.dtype in kinds for tensor in given) and installed()


def ssd(x, dt, A, B, C, cu_seqlens, D) -> Tensor:
    """``ssd`` forward in time, from and to no state. Chunks of 256 tokens, as in ``mamba_ssm.Mamba2``."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    seq_idx = sequence_index(cu_seqlens, len(x))[None]
    x, dt, B, C = (tensor[None].contiguous() for tensor in (x, dt, B, C))
    return mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size=256, D=D, seq_idx=seq_idx).squeeze(0)


def takes_conv1d(weight: Tensor, ahead: int) -> bool:
    """Whether causal-conv1d has such a convolution: 2 to 4 taps, in one direction, channels in multiples of 8."""
    channels, width = weight.shape
    return width in (2, 3, 4) and ahead in (0, width - 1) and channels % 8 == 0


def conv1d(x, weight, bias, cu_seqlens, ahead: int, activation: str | None) -> Tensor:
    """``y[t] = bias + sum_k weight[:, k] x[t + k - W + 1 + ahead]`` within each sequence, and SiLU of it."""
    from causal_conv1d import causal_conv1d_fn

    if ahead:  # the other way: the mirrored stream and mirrored taps
        x, weight, cu_seqlens = x.flip(0), weight.flip(1), flip_borders(cu_seqlens)
    seq_idx = sequence_index(cu_seqlens, len(x))[None]
    rows = x.contiguous()[None].mT  # (1, C, T), channels side by side, as it wants them for seq_idx
    y = causal_conv1d_fn(rows, weight.contiguous(), bias, seq_idx=seq_idx, activation=activation).squeeze(0).T
    return y.flip(0) if ahead else y
