"""Packed streams to compute on: lengths like those of real histories, and problems for each op."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from ops import lengths_like
from torch import Tensor

from recbole_ssm import ops as recbole_ssm_ops
from recbole_ssm.ops.backends import compute
from recbole_ssm.ops.packing import cumulative_lengths

__all__ = ["Problem", "at_least_float32", "borders_like", "long_problems", "scan_inputs"]


@dataclass(frozen=True)
class Problem:
    """An op on tensors.

    Attributes:
        name: its sizes in words.
        tensors: float64, or complex128, on the device; all get gradients.
        run: the op's output of such tensors.
    """

    name: str
    tensors: dict[str, Tensor]
    run: Callable[[dict[str, Tensor]], Tensor]

    def rounded(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The tensors in a number type; step sizes and what a model learns of them are float32 at least."""
        return {
            name: tensor.to(torch.complex64 if tensor.is_complex() else at_least_float32(name, dtype))
            for name, tensor in self.tensors.items()
        }


def at_least_float32(name: str, dtype: torch.dtype) -> torch.dtype:
    """The number type that a tensor of a scan has under autocast."""
    return torch.float32 if name in ("dt", "A", "D") else dtype


def borders_like(kind: str, n_tokens: int, device: torch.device) -> Tensor:
    """``cu_seqlens`` of ``n_tokens`` tokens, with lengths like MovieLens-1M's (``ml``) or Amazon's (``am``)."""
    return cumulative_lengths(lengths_like(kind, n_tokens)).to(device)


def _uniform_borders(n_tokens: int, most: int, device: torch.device) -> Tensor:
    """Lengths from 1 to ``most``, all as likely."""
    lengths = torch.randint(1, most + 1, (n_tokens,), generator=torch.Generator().manual_seed(2))
    lengths = lengths[lengths.cumsum(0) <= n_tokens]
    rest = n_tokens - int(lengths.sum())
    return cumulative_lengths(torch.cat([lengths, torch.tensor([rest] if rest else [], dtype=torch.int64)])).to(device)


def _normal(device: torch.device) -> Callable[..., Tensor]:
    generator = torch.Generator(device).manual_seed(3)
    return lambda *shape: torch.randn(*shape, dtype=torch.float64, device=device, generator=generator)


def scan_inputs(n_tokens: int, H: int, P: int, N: int, device: torch.device) -> dict[str, Tensor]:
    """Inputs of ``ssd`` like those of Mamba-2 as it is initialised: step sizes 0.001 to 0.1, ``A`` from -16 to -1."""
    normal = _normal(device)
    return {
        "x": normal(n_tokens, H, P),
        "dt": F.softplus(normal(n_tokens, H) - 4),
        "A": -(1 + 15 * torch.linspace(0, 1, H, dtype=torch.float64, device=device)),
        "B": normal(n_tokens, 1, N),
        "C": normal(n_tokens, 1, N),
        "D": normal(H),
    }


def long_problems(op: str, device: torch.device, *, tiny: bool) -> Iterator[Problem]:
    """Streams of about 20,000 tokens in sequences of 1 to 200, at widths that models have."""
    T, borders = (60, _uniform_borders(60, 20, device)) if tiny else (20_000, _uniform_borders(20_000, 200, device))
    yield from _MAKERS.get(op, lambda *_: ())(T, borders, tiny)


def _ssd(T: int, borders: Tensor, tiny: bool) -> Iterator[Problem]:
    sizes = [(2, 16, 16)] if tiny else [(8, 16, 32), (8, 16, 64), (8, 32, 16), (8, 64, 64), (8, 64, 128), (8, 64, 256)]
    for number, (H, P, N) in enumerate(sizes):
        reverse = number % 2 == 1

        def run(t: dict[str, Tensor], reverse: bool = reverse) -> Tensor:
            given = (t[name] for name in ("x", "dt", "A", "B", "C"))
            return recbole_ssm_ops.ssd(*given, borders, D=t["D"], reverse=reverse)

        yield Problem(f"{H} heads of {P}, {N} states", scan_inputs(T, H, P, N, borders.device), run)


def _selective_scan(T: int, borders: Tensor, tiny: bool) -> Iterator[Problem]:
    for E, N in [(8, 4)] if tiny else [(128, 16), (128, 32), (512, 16)]:
        normal = _normal(borders.device)
        A = -torch.arange(1.0, N + 1, dtype=torch.float64, device=borders.device).repeat(E, 1)
        tensors = {"x": normal(T, E), "dt": F.softplus(normal(T, E) - 4), "A": A, "B": normal(T, N), "C": normal(T, N)}

        def run(t: dict[str, Tensor]) -> Tensor:
            return recbole_ssm_ops.selective_scan(*t.values(), borders)

        yield Problem(f"{E} channels, {N} states", tensors, run)


def _conv1d(T: int, borders: Tensor, tiny: bool) -> Iterator[Problem]:
    for C, ahead in [(8, 0)] if tiny else [(192, 0), (640, 3)]:
        normal = _normal(borders.device)
        tensors = {"x": normal(T, C), "weight": normal(C, 4), "bias": normal(C)}

        def run(t: dict[str, Tensor], ahead: int = ahead) -> Tensor:
            return recbole_ssm_ops.causal_conv1d(t["x"], t["weight"], t["bias"], borders, reverse=ahead > 0)

        yield Problem(f"{C} channels, {ahead} ahead", tensors, run)


def _cross_entropy(T: int, borders: Tensor, tiny: bool) -> Iterator[Problem]:
    for V, d in [(50, 8)] if tiny else [(3417, 64), (12102, 256)]:
        normal, rows = _normal(borders.device), T if tiny else T // 4
        target = torch.randint(V, (rows,), generator=torch.Generator().manual_seed(4)).to(borders.device)

        def run(t: dict[str, Tensor], target: Tensor = target) -> Tensor:
            return recbole_ssm_ops.linear_cross_entropy(t["hidden"], t["weight"], target)

        yield Problem(f"{rows} rows, {V} items", {"hidden": normal(rows, d), "weight": 0.3 * normal(V, d)}, run)


def _gated_norm(T: int, borders: Tensor, tiny: bool) -> Iterator[Problem]:
    for n in [16] if tiny else [128, 512]:
        normal = _normal(borders.device)

        def run(t: dict[str, Tensor]) -> Tensor:
            return recbole_ssm_ops.gated_rms_norm(*t.values(), eps=1e-5, norm_before_gate=False)

        yield Problem(f"width {n}", {"y": normal(T, n), "z": normal(T, n), "weight": normal(n)}, run)


def _feed_forward(T: int, borders: Tensor, tiny: bool) -> Iterator[Problem]:
    for d in [8] if tiny else [64, 256]:
        normal, E = _normal(borders.device), 4 * d
        tensors = {"x": normal(T, d), "W1": normal(E, d) / d**0.5, "b1": normal(E), "W2": normal(d, E) / E**0.5}
        tensors |= {"b2": normal(d), "weight": normal(d), "bias": normal(d)}

        def run(t: dict[str, Tensor]) -> Tensor:
            return recbole_ssm_ops.feed_forward(*t.values(), eps=1e-5, dropout=0.0, dropout_after_norm=False)

        yield Problem(f"width {d}", tensors, run)


def _linear_recurrence(T: int, borders: Tensor, tiny: bool) -> Iterator[Problem]:
    for E in [8] if tiny else [128, 256]:
        normal = _normal(borders.device)
        radius, angle = (torch.linspace(*ends, E, dtype=torch.float64) for ends in ((0.8, 0.999), (0.0, 6.0)))
        decay = torch.polar(radius, angle).to(borders.device)

        def run(t: dict[str, Tensor]) -> Tensor:
            return torch.view_as_real(recbole_ssm_ops.linear_recurrence(t["x"], t["decay"], borders))

        yield Problem(f"{E} channels", {"x": torch.complex(normal(T, E), normal(T, E)), "decay": decay}, run)


def _attention(T: int, borders: Tensor, tiny: bool) -> Iterator[Problem]:
    for H, P in [(2, 8)] if tiny else [(2, 32), (8, 32)]:
        normal = _normal(borders.device)

        def run(t: dict[str, Tensor]) -> Tensor:
            return compute("attention", *t.values(), borders)

        yield Problem(f"{H} heads of {P}", {name: normal(T, H, P) for name in "qkv"}, run)


_MAKERS = {
    "ssd": _ssd,
    "selective_scan": _selective_scan,
    "conv1d": _conv1d,
    "cross_entropy": _cross_entropy,
    "gated_norm": _gated_norm,
    "feed_forward": _feed_forward,
    "linear_recurrence": _linear_recurrence,
    "attention": _attention,
}
