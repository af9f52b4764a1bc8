"""Mamba-2's scan over a packed stream on a GPU, as products of matrices within chunks (arXiv 2405.21060, section 6).

Chunks cut the stream regardless of borders, so that short sequences share them and waste nothing. Forward: a kernel
finds the sequence of each token and sums up log decays, one walks along each sequence that is in several chunks, and
one computes y. Backward: one walks back, and one computes all gradients. Nothing waits for the GPU, and no shape
depends on the borders, so that a CUDA graph can record it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from recbole_ssm.ops.backends.layout import rows_contiguous
from recbole_ssm.ops.backends.triton.ssd_kernels import carry, gradients, outputs, prepare
from recbole_ssm.ops.precision import HALF

_PROGRAMS = 512
"""As many or more keep a large GPU busy. Each has a warp for 16 rows: more would hold the same numbers again, since
Triton gives rows of chained products to warps. With 8 warps for 64 rows an H100 met an illegal address."""

_BLOCK_N = 32
"""Columns of B and C that a program holds at a time, but for the one that walks along sequences."""


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    cu_seqlens: Tensor,
    *,
    D: Tensor | None,
    reverse: bool,
    initial_state: Tensor | None,
    return_final_state: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """The op ``ssd``; sums are in float32 whatever the inputs are."""
    y, final = _Scan.apply(x, dt, A, B, C, D, initial_state, cu_seqlens, reverse, return_final_state)
    return (y, final) if return_final_state else y


def fits(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, *_: Tensor, **__: Any) -> bool:
    """Whether a program can hold rows of B."""
    return B.shape[-1] <= 256


class _Plan(NamedTuple):
    """Sizes of a problem, and how it is cut.

    Attributes:
        chunk: tokens of a chunk.
        splits: programs that share the heads of a group.
    """

    T: int
    S: int
    H: int
    P: int
    G: int
    N: int
    reverse: bool
    precision: str
    chunk: int
    splits: int

    @property
    def chunks(self) -> int:
        """How many there are."""
        return triton.cdiv(self.T, self.chunk)

    def constants(self, *, whole_rows: bool = False) -> dict[str, Any]:
        """What a kernel is compiled for; a program with ``whole_rows`` of N has fewer of them."""
        block_n = max(triton.next_power_of_2(self.N), 16)
        block_p = max(min(triton.next_power_of_2(self.P), 2048 // block_n if whole_rows else 32), 16)
        sizes = {"H": self.H, "P": self.P, "N": self.N, "G": self.G, "REVERSE": self.reverse}
        blocks = {"BLOCK_P": block_p, "BLOCK_N": block_n if whole_rows else min(block_n, _BLOCK_N)}
        return sizes | blocks | {"Q": self.chunk, "PRECISION": self.precision}


def _plan(x: Tensor, B: Tensor, C: Tensor, cu_seqlens: Tensor, reverse: bool) -> _Plan:
    (T, H, P), (G, N), S = x.shape, B.shape[1:], len(cu_seqlens) - 1
    chunk = _chunk_length(T, S)
    per_group = H // G
    wanted = _PROGRAMS / max(triton.cdiv(T, chunk) * G, 1)
    if N > _BLOCK_N:
        wanted = per_group
    splits = next(n for n in range(1, per_group + 1) if per_group % n == 0 and (n >= wanted or n == per_group))
    return _Plan(T, S, H, P, G, N, reverse, _precision(x, B, C), chunk, splits)


def _chunk_length(T: int, S: int) -> int:
    """Longer chunks waste work on short sequences, and their matrices fill the registers."""
    return 16 if T < 12 * S else 32


def _precision(*tensors: Tensor) -> str:
    """How dots multiply: three products of half the digits are as exact as float32, one is as torch may be told to."""
    if all(tensor.dtype in HALF for tensor in tensors):
        return "tf32"
    matmul = torch.backends.cuda.matmul
    setting = getattr(matmul, "fp32_precision", None)  # asking for allow_tf32 as well fails where this was set
    return "tf32" if setting == "tf32" or (setting is None and matmul.allow_tf32) else "tf32x3"


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, D, initial, cu_seqlens, reverse, wants_final = arguments
        x, dt, B, C = (rows_contiguous(tensor) for tensor in (x, dt, B, C))
        A, D, initial = (None if tensor is None else tensor.contiguous() for tensor in (A, D, initial))
        cu_seqlens = cu_seqlens.to(torch.int32).contiguous()
        plan = _plan(x, B, C, cu_seqlens, reverse)
        (T, S, H, P, _, N), chunks = plan[:6], plan.chunks
        seq, decay = x.new_empty(T, dtype=torch.int32), x.new_empty(2, H, T, dtype=torch.float32)
        entering = x.new_empty(chunks, H, P, N, dtype=torch.float32)
        y, final = x.new_empty(T, H, P), x.new_empty(S if wants_final else 0, H, P, N, dtype=torch.float32)
        block_h = min(triton.next_power_of_2(H), 16)
        prepare[(chunks, triton.cdiv(H, block_h))](
            dt, A, cu_seqlens, seq, decay, T, S, S.bit_length(), dt.stride(0), H, reverse, plan.chunk, block_h
        )
        _carry(plan, x, B, dt, (seq, decay, cu_seqlens), initial, entering, final if wants_final else None)
        outputs[(chunks, plan.G * plan.splits)](
            x, dt, B, C, D, seq, decay, entering, initial, y, T, *(tensor.stride(0) for tensor in (x, dt, B, C)),
            HAS_D=D is not None, INITIAL=initial is not None, HEADS=H // plan.G // plan.splits,
            **plan.constants(), num_warps=plan.chunk // 16, num_stages=1,
        )  # fmt: skip
        ctx.save_for_backward(x, dt, A, B, C, D, initial, cu_seqlens, seq, decay, entering)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        return y, final

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor | None, d_final: Tensor | None) -> tuple[Tensor | None, ...]:
        x, dt, A, B, C, D, initial, cu_seqlens, seq, decay, entering = ctx.saved_tensors
        plan: _Plan = ctx.plan
        T, _, H, P, G, N = plan[:6]
        dy = x.new_zeros(T, H, P) if dy is None else dy.contiguous()
        d_final = None if d_final is None else d_final.contiguous()
        d_initial = None if initial is None else torch.empty_like(initial)
        leaving = torch.empty_like(entering)
        dx, d_dt = x.new_empty(T, H, P), dt.new_empty(T, H)
        dBC = x.new_empty(2, plan.splits, T, G, N, dtype=torch.float32)
        chunks = plan.chunks + -plan.chunks % 4  # so that both parts begin at aligned addresses: one kernel is compiled
        dAD = x.new_empty(1 if D is None else 2, chunks, H, dtype=torch.float32)[:, : plan.chunks]
        _carry(plan, dy, C, dt, (seq, decay, cu_seqlens), d_final, leaving, d_initial, backward=True)
        gradients[(plan.chunks, G * plan.splits)](
            x, dt, A, B, C, D, seq, decay, entering, initial, leaving, d_final, dy, dx, d_dt, *dBC, dAD[0], dAD[-1],
            T, *(tensor.stride(0) for tensor in (x, dt, B, C)),
            HAS_D=D is not None, INITIAL=initial is not None, FINAL=d_final is not None, HEADS=H // G // plan.splits,
            **plan.constants(), num_warps=plan.chunk // 16, num_stages=1,
        )  # fmt: skip
        dB, dC = dBC[:, 0] if plan.splits == 1 else dBC.sum(1)
        sums = dAD.sum(1)
        dD = None if D is None else sums[1].to(D.dtype)
        return dx, d_dt, sums[0].to(A.dtype), dB.to(B.dtype), dC.to(C.dtype), dD, d_initial, None, None, None


def _carry(
    plan: _Plan,
    x: Tensor,
    B: Tensor,
    dt: Tensor,
    stream: tuple[Tensor, Tensor, Tensor],
    start: Tensor | None,
    kept: Tensor,
    end: Tensor | None,
    *,
    backward: bool = False,
) -> None:
    """Launch ``carry``; ``stream`` is seq, decay and cu_seqlens."""
    constants = plan.constants(whole_rows=True)
    walkers = plan.S if end is not None else max(plan.chunks - 1, 0)
    carry[(walkers, plan.H, triton.cdiv(plan.P, constants["BLOCK_P"]))](
        x, B, dt, *stream, start, kept, end, plan.T, x.stride(0), B.stride(0), dt.stride(0),
        BACKWARD=backward, START=start is not None, END=end is not None, **constants, num_warps=4,
    )  # fmt: skip
