"""How fast the ops are, forward and backward, against named peers in the same run.

    python benchmarks/ops.py [--tokens 16384] [--threads 1 2] [--repeats 5] [--only ssd conv1d ...] [--json ops.json]

Prints a table for each op, and writes JSON. Lengths are like MovieLens-1M's (``ml``, mean about 110, at most 200) and
like Amazon's (``am``, mean about 8). Times are process seconds with one thread and wall seconds with more; nothing else
should run meanwhile. A ratio is the median over rounds of peer time over our time.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from measuring import alternate, machine, median_ratio, sgemm_gflops
from torch import Tensor, nn

from recbole_ssm.layers import FeedForward, Mamba, Mamba2
from recbole_ssm.layers.norm import GatedRMSNorm
from recbole_ssm.ops import causal_conv1d, linear_cross_entropy, selective_scan, ssd, use_backend
from recbole_ssm.ops.backends.pytorch.ssd_chunked import ssd_chunked
from recbole_ssm.ops.packing import cumulative_lengths, positions
from recbole_ssm.system.resources import added_memory_mib


@dataclass
class Case:
    """One problem, our backends and the peers that solve it, and the arithmetic that ours takes."""

    op: str
    size: str
    tokens: int
    ours: dict[str, Callable[[], Tensor]]
    peers: dict[str, Callable[[], Tensor]]
    leaves: list[Tensor]
    gflop: float | None = None


def lengths_like(kind: str, n_tokens: int) -> Tensor:
    """Lengths of sequences of ``n_tokens`` tokens in all."""
    generator = torch.Generator().manual_seed(1)
    mean, deviation, most = {"ml": (4.5, 0.9, 200), "am": (1.9, 0.6, 50)}[kind]
    lengths: list[int] = []
    while sum(lengths) < n_tokens:
        drawn = int(torch.exp(mean + deviation * torch.randn((), generator=generator)).clamp(1, most))
        lengths.append(min(drawn, n_tokens - sum(lengths)))
    return torch.tensor(lengths)


class Padding:
    """From the packed stream to a padded batch and back, for peers that need one. Not part of what is timed."""

    def __init__(self, lengths: Tensor):
        self.valid = torch.arange(int(lengths.max())) < lengths[:, None]

    def pad(self, packed: Tensor) -> Tensor:
        """(T, ...) to (S, L, ...)."""
        padded = packed.new_zeros(*self.valid.shape, *packed.shape[1:])
        padded[self.valid] = packed.detach()
        return padded.requires_grad_(packed.requires_grad)


def padded_scan_loop(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Mamba's recurrence over a padded batch, a step at a time, as mamba-ssm's ``selective_scan_ref``."""
    h, y = u.new_zeros(len(u), u.shape[2], B.shape[2]), []
    for t in range(u.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
        y.append((h * C[:, t, None]).sum(-1))
    return torch.stack(y, 1)


def padded_ssd_loop(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """Mamba-2's recurrence over a padded batch, a step at a time."""
    h, y = x.new_zeros(len(x), *x.shape[2:], B.shape[2]), []
    for t in range(x.shape[1]):
        xdt = x[:, t] * dt[:, t, :, None]
        h = torch.exp(dt[:, t] * A)[..., None, None] * h + xdt[..., None] * B[:, t, None, None]
        y.append((h @ C[:, t, None, :, None]).squeeze(-1))
    return torch.stack(y, 1)


def padded_ssd_chunks(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk: int) -> Tensor:
    """Mamba-2's scan over a padded batch in chunks with a matrix of decays per head, as mamba's ``ssd_minimal``."""
    L = x.shape[1]
    fill = -L % chunk
    x, dt, B, C = (F.pad(t, (0, 0) * (t.dim() - 2) + (0, fill)) for t in (x, dt, B, C))
    x, dt, B, C = (t.unflatten(1, (-1, chunk)) for t in (x * dt[..., None], dt, B, C))
    c = (dt * A).movedim(-1, 1).cumsum(-1)  # (S, H, K, Q)
    causal = torch.ones(chunk, chunk, dtype=torch.bool).tril()
    decays = (c[..., :, None] - c[..., None, :]).masked_fill(~causal, -60.0).exp() * causal
    inside = torch.einsum("skin,skjn,shkij,skjhp->skihp", C, B, decays, x)
    added = torch.einsum("skjn,shkj,skjhp->skhpn", B, torch.exp(c[..., -1:] - c), x)
    state, entering = torch.zeros_like(added[:, 0]), []
    for k in range(added.shape[1]):
        entering.append(state)
        state = torch.exp(c[:, :, k, -1])[..., None, None] * state + added[:, k]
    carried = torch.einsum("skin,skhpn,shki->skihp", C, torch.stack(entering, 1), torch.exp(c))
    return (inside + carried).flatten(1, 2)[:, :L]


def plain_mamba2(mixer: Mamba2, hidden: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The mixer over a packed stream by PyTorch's own differentiation: exact chunks, shifted products, no kernels."""
    H, P, N = mixer.nheads, mixer.headdim, mixer.d_state
    z, xBC, dt = mixer.in_proj(hidden).split([mixer.d_inner, mixer.d_inner + 2 * N, H], -1)
    place, weight = positions(cu_seqlens, len(hidden))[:, None], mixer.conv1d.weight.squeeze(1)
    taps = weight.shape[1]
    shifted = (xBC.roll(k, 0).masked_fill(place < k, 0.0) * weight[:, taps - 1 - k] for k in range(taps))
    x, B, C = F.silu(sum(shifted) + mixer.conv1d.bias).split([mixer.d_inner, N, N], -1)
    heads, dt, A = x.unflatten(-1, (H, P)), F.softplus(dt + mixer.dt_bias), -torch.exp(mixer.A_log)
    y = ssd_chunked(heads, dt, A, B[:, None], C[:, None], cu_seqlens, None)[0] + mixer.D[:, None] * heads
    normed = F.rms_norm(y.flatten(1) * F.silu(z), (mixer.d_inner,), mixer.norm.weight, mixer.norm.eps)
    return mixer.out_proj(normed)


def packed_attention(q: Tensor, k: Tensor, v: Tensor, lengths: list[int]) -> Tensor:
    """Causal attention within each sequence, (T, H, P), a sequence at a time: nothing padded."""
    pieces = zip(*(tensor.split(lengths) for tensor in (q, k, v)), strict=True)
    return torch.cat(
        [
            F.scaled_dot_product_attention(*(part.transpose(0, 1) for part in piece), is_causal=True).transpose(0, 1)
            for piece in pieces
        ]
    )


def _on(backend: str, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def wrapped() -> Tensor:
        with use_backend(backend):
            return run()

    return wrapped


def ssd_cases(n_tokens: int) -> Iterator[Case]:
    """The sizes of kernels for widths 64 and 256, and 2Mamba4Rec's."""
    for kind in ("ml", "am"):
        for d, H, P, N in ((64, 8, 16, 32), (64, 2, 64, 64), (64, 32, 4, 128), (256, 32, 16, 64)):
            lengths = lengths_like(kind, n_tokens)
            cu_seqlens, padding = cumulative_lengths(lengths), Padding(lengths)
            x, B, C = torch.randn(n_tokens, H, P), torch.randn(n_tokens, 1, N), torch.randn(n_tokens, 1, N)
            packed = [x, torch.rand(n_tokens, H) * 0.1, -torch.rand(H) * 4 - 0.1, B, C]
            packed = [tensor.requires_grad_() for tensor in packed]
            padded = [padding.pad(packed[i]) for i in (0, 1)] + [packed[2]] + [padding.pad(t) for t in (B, C)]
            padded = [padded[0], padded[1], packed[2], *(t.squeeze(2).detach().requires_grad_() for t in padded[3:])]
            qkv = [torch.randn(n_tokens, d // 32, 32, requires_grad=True) for _ in range(3)]

            def ours(packed=packed, cu_seqlens=cu_seqlens):
                return ssd(*packed, cu_seqlens)

            chunk = {"ml": 32, "am": 16}[kind]  # faster than longer ones, and they take less memory
            peers = {
                "packed exact chunks, autograd": lambda t=packed, cu=cu_seqlens: ssd_chunked(*t, cu, None)[0],
                "padded ssd_minimal": lambda padded=padded, chunk=chunk: padded_ssd_chunks(*padded, chunk),
                "packed SDPA": lambda qkv=qkv, lengths=lengths: packed_attention(*qkv, lengths.tolist()),
            }
            if d == 64 and N == 32:
                peers["padded loop"] = lambda padded=padded: padded_ssd_loop(*padded)
            E, Q = H * P, min(64 if N >= 64 else 32, float(lengths.float().mean()))
            per_token = E * (0.5 * Q + 2 * N) + E * (1.5 * Q + 4 * N) + 4 * Q * N
            backends = {name: _on(name, ours) for name in ("native", "torch")}
            yield Case(
                "ssd", f"{kind} d{d} H{H} P{P} N{N}", n_tokens, backends, peers, [*packed, *padded, *qkv],
                2 * n_tokens * per_token / 1e9,
            )  # fmt: skip


def selective_scan_cases(n_tokens: int) -> Iterator[Case]:
    """Mamba's scan at widths 64 and 256."""
    for kind in ("ml", "am"):
        for E, N in ((128, 16), (128, 32), (512, 16)):
            lengths = lengths_like(kind, n_tokens)
            cu_seqlens, padding = cumulative_lengths(lengths), Padding(lengths)
            A = -torch.arange(1.0, N + 1).repeat(E, 1)
            packed = [torch.randn(n_tokens, E), torch.rand(n_tokens, E) * 0.1, A]
            packed = [t.requires_grad_() for t in (*packed, torch.randn(n_tokens, N), torch.randn(n_tokens, N))]
            padded = [t if i == 2 else padding.pad(t) for i, t in enumerate(packed)]

            def ours(packed=packed, cu_seqlens=cu_seqlens):
                return selective_scan(*packed, cu_seqlens)

            peers = {"selective_scan_ref (padded loop)": lambda padded=padded: padded_scan_loop(*padded)}
            backends = {name: _on(name, ours) for name in ("native", "torch")}
            yield Case("selective_scan", f"{kind} E{E} N{N}", n_tokens, backends, peers, [*packed, *padded])


def conv1d_cases(n_tokens: int) -> Iterator[Case]:
    """Width 4 with SiLU over 256 channels."""
    C = 256
    for kind in ("ml", "am"):
        lengths = lengths_like(kind, n_tokens)
        cu_seqlens, padding = cumulative_lengths(lengths), Padding(lengths)
        x = torch.randn(n_tokens, C, requires_grad=True)
        conv = nn.Conv1d(C, C, 4, groups=C, padding=3)
        rows = padding.pad(x)

        def ours(x=x, conv=conv, cu_seqlens=cu_seqlens):
            return causal_conv1d(x, conv.weight.squeeze(1), conv.bias, cu_seqlens)

        def peer(rows=rows, conv=conv):
            return F.silu(conv(rows.mT)[..., : rows.shape[1]]).mT

        backends = {name: _on(name, ours) for name in ("native", "torch")}
        yield Case(
            "conv1d", f"{kind} C{C}", n_tokens, backends, {"nn.Conv1d, padded": peer}, [x, rows, *conv.parameters()]
        )


def cross_entropy_cases(n_tokens: int) -> Iterator[Case]:
    """Catalogues like MovieLens-1M's, Amazon Beauty's, and a large one."""
    for T, V, d in (
        (n_tokens, 3417, 64),
        (n_tokens, 12102, 64),
        (n_tokens // 4, 12102, 256),
        (n_tokens // 16, 200_000, 64),
    ):
        hidden, weight = torch.randn(T, d, requires_grad=True), (torch.randn(V, d) * 0.02).requires_grad_()
        target = torch.randint(V, (T,))

        def run(h=hidden, w=weight, t=target):
            return linear_cross_entropy(h, w, t)

        ours = {backend: _on(backend, run) for backend in ("native", "torch")}
        peers = {"F.cross_entropy": lambda h=hidden, w=weight, t=target: F.cross_entropy(h @ w.T, t)}
        yield Case("cross_entropy", f"V{V} d{d}", T, ours, peers, [hidden, weight], 6 * T * V * d / 1e9)


def layer_cases(n_tokens: int) -> Iterator[Case]:
    """What stands beside the mixers, at widths 64 and 256."""
    for d in (64, 256):
        x, y, z = (torch.randn(n_tokens, width, requires_grad=True) for width in (d, 2 * d, 2 * d))
        norm, network = GatedRMSNorm(2 * d), FeedForward(d, 4 * d, 0.2).train()
        for name, layer, inputs in (("gated norm", norm, (y, z)), ("feed-forward", network, (x,))):
            ours = {b: _on(b, lambda layer=layer, inputs=inputs: layer(*inputs)) for b in ("native", "torch")}
            gflop = 6 * n_tokens * 8 * d * d / 1e9 if layer is network else None
            yield Case("layer", f"{name} d{d}", n_tokens, ours, {}, [*inputs, *layer.parameters()], gflop)


def mixer_cases(n_tokens: int) -> Iterator[Case]:
    """Whole mixers at width 64, against those of transformers where it is installed."""
    for kind in ("ml", "am"):
        lengths = lengths_like(kind, n_tokens)
        cu_seqlens, padding = cumulative_lengths(lengths), Padding(lengths)
        hidden = torch.randn(n_tokens, 64, requires_grad=True)
        rows = padding.pad(hidden)
        mixers = {"mamba2 d64 H8 P16 N32": Mamba2(64, 32, headdim=16), "mamba d64 N16": Mamba(64, 16)}
        for name, mixer in mixers.items():

            def ours(mixer=mixer, hidden=hidden, cu_seqlens=cu_seqlens):
                return mixer(hidden, cu_seqlens)

            backends = {backend: _on(backend, ours) for backend in ("native", "torch")}
            peer, parameters = transformers_mixer(name)
            peers = {} if peer is None else {"transformers, padded": lambda peer=peer, rows=rows: peer(rows)}
            if isinstance(mixer, Mamba2):
                peers["packed, plain autograd"] = lambda m=mixer, h=hidden, cu=cu_seqlens: plain_mamba2(m, h, cu)
            leaves = [hidden, rows, *mixer.parameters(), *parameters]
            yield Case("mixer", f"{kind} {name}", n_tokens, backends, peers, leaves)


def transformers_mixer(name: str) -> tuple[Callable[[Tensor], Tensor] | None, list[nn.Parameter]]:
    """The same mixer of transformers as a function of a padded batch, and its parameters."""
    try:
        from transformers import Mamba2Config, MambaConfig
        from transformers.models.mamba.modeling_mamba import MambaMixer
        from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
    except ImportError:
        return None, []
    if name.startswith("mamba2"):
        config = Mamba2Config(
            hidden_size=64, state_size=32, head_dim=16, num_heads=8, n_groups=1, expand=2, chunk_size=64
        )
        mixer = Mamba2Mixer(config, 0)
        return mixer.torch_forward, list(mixer.parameters())
    mixer = MambaMixer(MambaConfig(hidden_size=64, state_size=16, expand=2), 0)
    return mixer.slow_forward, list(mixer.parameters())


CASES = {
    "ssd": ssd_cases,
    "selective_scan": selective_scan_cases,
    "conv1d": conv1d_cases,
    "cross_entropy": cross_entropy_cases,
    "layer": layer_cases,
    "mixer": mixer_cases,
}


def both_ways(run: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], None]:
    """Forward and backward, without adding up gradients from run to run."""

    def step() -> None:
        out = run()
        out.backward(torch.ones_like(out))
        for leaf in leaves:
            leaf.grad = None

    return step


def measure(case: Case, threads: int, repeats: int, sgemm: float) -> list[dict]:
    """A row for each of our backends and each peer; ratios are over the first of our backends."""
    torch.set_num_threads(threads)
    runs = {name: both_ways(run, case.leaves) for name, run in {**case.ours, **case.peers}.items()}
    seconds = alternate(runs, repeats)
    first = next(iter(case.ours))
    rows = []
    for name, run in runs.items():
        median = statistics.median(seconds[name])
        gflops = case.gflop / median if case.gflop and name in case.ours else None
        rows.append(
            {
                "op": case.op,
                "size": case.size,
                "threads": threads,
                "variant": name,
                "tokens_per_second": case.tokens / median,
                "times_as_long": median_ratio(seconds[name], seconds[first]),
                "share_of_sgemm": None if gflops is None else gflops / sgemm,
                "added_memory_mib": added_memory_mib(run, torch.device("cpu")),
            }
        )
    return rows


def print_rows(rows: list[dict]) -> None:
    """One line for each variant."""
    for row in rows:
        share = "" if row["share_of_sgemm"] is None else f"{row['share_of_sgemm']:.0%}"
        memory = "" if row["added_memory_mib"] is None else f"{row['added_memory_mib']:.0f}"
        print(
            f"{row['op']:15}{row['size']:26}{row['threads']:>3}  {row['variant']:34}"
            f"{row['tokens_per_second'] / 1e3:>10.1f}{row['times_as_long']:>9.2f}{share:>8}{memory:>9}",
            flush=True,
        )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--json", type=Path, default=Path("ops.json"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    results = {"machine": machine(), "tokens": arguments.tokens, "rows": []}
    header = f"{'op':15}{'size':26}{'thr':>3}  {'variant':34}{'ktok/s':>10}{'x time':>9}{'sgemm':>8}{'+MiB':>9}"
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        sgemm = sgemm_gflops()
        print(f"\n{threads} thread(s), sgemm {sgemm:.0f} GFLOP/s\n{header}")
        for name in arguments.only:
            for case in CASES[name](arguments.tokens):
                rows = measure(case, threads, arguments.repeats, sgemm)
                print_rows(rows)
                results["rows"] += rows
    arguments.json.write_text(json.dumps(results, indent=1))
    print(f"\nwritten to {arguments.json}")


if __name__ == "__main__":
    main()
