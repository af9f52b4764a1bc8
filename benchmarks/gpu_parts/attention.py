"""Causal attention over a packed stream: this package's, and the forms that PyTorch has."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_parts.place import Skipped
from recbole_ssm.ops import causal_attention, use_backend


def variants(qkv: list[Tensor], borders: Tensor) -> Iterator[tuple[str, Callable[[], Tensor], list[Tensor]]]:
    """Name, function and inputs of each form.

    Args:
        qkv: queries, keys and values, (T, H, P) each.
        borders: ``cu_seqlens`` (S + 1,).

    Yields:
        Padding, where a form needs it, is done before and not timed.
    """
    lengths = borders.diff().long()
    most = int(lengths.max())
    yield "attention, ours", lambda: causal_attention(*qkv, borders), qkv
    yield "attention, SDPA, by length", lambda: _by_length(qkv, borders), qkv
    yield "attention, varlen flash", lambda: _varlen(qkv, borders, most), qkv
    valid = torch.arange(most, device=borders.device) < lengths[:, None]
    padded = [_rows(tensor, valid).requires_grad_() for tensor in qkv]
    yield "attention, SDPA, padded", lambda: F.scaled_dot_product_attention(*padded, is_causal=True), padded
    yield "attention, SDPA, nested", lambda: _nested(qkv, borders, most), qkv


def _by_length(qkv: list[Tensor], borders: Tensor) -> Tensor:
    """Sequences of about the same length together."""
    with use_backend("torch"):
        return causal_attention(*qkv, borders)


def _rows(tensor: Tensor, valid: Tensor) -> Tensor:
    """(T, H, P) as (S, H, L, P), filled up with 0."""
    rows = tensor.new_zeros(*valid.shape, *tensor.shape[1:])
    rows[valid] = tensor.detach()
    return rows.transpose(1, 2).contiguous()


def _varlen(qkv: list[Tensor], borders: Tensor, most: int) -> Tensor:
    """Torch's flash attention for packed sequences, which takes half precision on a GPU."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError as error:
        raise Skipped(f"this torch has none: {error}") from error
    if not borders.is_cuda or qkv[0].dtype == torch.float32:
        raise Skipped("it needs a GPU and half precision")
    new = "window_size" in inspect.signature(varlen_attn).parameters
    causal = {"window_size": (-1, 0)} if new else {"is_causal": True}
    return varlen_attn(*qkv, borders, borders, most, most, **causal)


def _nested(qkv: list[Tensor], borders: Tensor, most: int) -> Tensor:
    """Torch's nested tensors, which take half precision on a GPU."""
    if not borders.is_cuda or qkv[0].dtype == torch.float32:
        raise Skipped("it needs a GPU and half precision")
    offsets = borders.long()
    make = torch.nested.nested_tensor_from_jagged
    rows = [make(tensor, offsets, min_seqlen=1, max_seqlen=most).transpose(1, 2) for tensor in qkv]
    return F.scaled_dot_product_attention(*rows, is_causal=True).transpose(1, 2).values()
