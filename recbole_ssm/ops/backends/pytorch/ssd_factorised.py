"""The scan as a handful of matrix products, with a backward pass of its own.

Inside a chunk the decay from token j to token i factorises: ``exp(c_i - c_j) = exp(c_i - m) exp(m - c_j)``, c being the
sum of log decays up to a token and m the middle of its range. So no matrix per head is left. All heads of a group share
one masked ``C B^T``, the two factors scale the rows of y and x, and everything is a product over all ``H P`` columns.

The factors stay within float32 while c moves by less than 80 within a chunk, so the length of chunks is chosen call by
call. Chunks cut the stream regardless of borders, which masks respect. Chunks are worked on in tiles that fit a cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_ssm.ops.packing import lengths_of, positions, sequence_index
from recbole_ssm.ops.precision import without_autocast

_LOWEST_LOG_DECAY = -20.0
"""Of one step: exp(-20) is less than float32 resolves next to 1, and four such steps fit into the shortest chunk."""

_LOWEST_LOG_DECAY_OF_CHUNK = -80.0

_TILE_ELEMENTS = 1 << 17
"""Elements of x in a tile: 512 KiB in float32, so that a few such temporaries stay in a second-level cache."""


def ssd_factorised(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, cu_seqlens: Tensor, D: Tensor | None
) -> Tensor:
    """``y`` of :func:`recbole_ssm.ops.ssd`, forward in time, from and to no state."""
    log_decay = (dt * A).clamp(min=_LOWEST_LOG_DECAY)
    return _Scan.apply(x, dt, log_decay, B, C, D, cu_seqlens)


def _chunk_length(log_decay: Tensor) -> int:
    """The longest of 32, 16, 8, 4 tokens whose log decays never sum to less than the limit."""
    for chunk in (32, 16, 8):
        sums = F.pad(log_decay, (0, 0, 0, -len(log_decay) % chunk)).unflatten(0, (-1, chunk)).sum(1)
        if not sums.numel() or float(sums.min()) > _LOWEST_LOG_DECAY_OF_CHUNK:
            return chunk
    return 4


class _Tile:
    """K chunks of Q tokens: the masks of borders and the factors of decay that both passes use.

    Args:
        log_decay: (K, Q, H) of each token.
        seq_idx: (K, Q), the sequence of each token.
        first: (K, Q), whether it is the first of its sequence.

    Attributes:
        mask: (K, Q, Q), 1 where token i sees token j: same sequence, j not after i.
        reached: (K, Q, 1), 1 where the state that enters the chunk is of the token's sequence.
        kept: (K, Q, 1), 1 where the token is of the sequence that leaves the chunk.
        rise, fall: (K, Q, H), ``exp(c - m)`` and ``exp(m - c)``.
        half: (K, H), ``exp(m)``: from the chunk's start to the middle of the range, and from there to its end.
        passing: (K, H), what is left at the chunk's end of the state that enters it.
    """

    def __init__(self, log_decay: Tensor, seq_idx: Tensor, first: Tensor):
        c = log_decay.masked_fill(first[..., None], 0.0).cumsum(1)  # nothing decays into a first token
        middle = c[:, -1:] / 2
        self.rise, self.fall = torch.exp(c - middle), torch.exp(middle - c)
        self.half = torch.exp(middle[:, 0])
        self.mask = (seq_idx[:, :, None] == seq_idx[:, None]).to(c.dtype).tril_()
        reached = first.cumsum(1) == 0
        kept = seq_idx == seq_idx[:, -1:]
        self.reached, self.kept = reached[..., None].to(c.dtype), kept[..., None].to(c.dtype)
        self.passing = torch.exp(c[:, -1]) * (reached[:, -1:] & kept[:, :1])


class _Stream:
    """The packed stream cut into tiles, its end filled up to a whole chunk."""

    def __init__(self, log_decay: Tensor, cu_seqlens: Tensor, n_columns: int):
        self.n_tokens = len(log_decay)
        self.chunk = _chunk_length(log_decay)
        self.n_chunks = -(-self.n_tokens // self.chunk)
        self.chunks_per_tile = max(_TILE_ELEMENTS // (self.chunk * n_columns), 1)
        self.log_decay = log_decay
        self.seq_idx = sequence_index(cu_seqlens, self.n_tokens)
        self.first = positions(cu_seqlens, self.n_tokens) == 0

    def tiles(self, reverse: bool = False) -> Iterator[tuple[_Tile, slice]]:
        """Yield each tile and the slice of chunks that it covers."""
        starts = range(0, self.n_chunks, self.chunks_per_tile)
        for start in reversed(starts) if reverse else starts:
            chunks = slice(start, min(start + self.chunks_per_tile, self.n_chunks))
            cut = (self.cut(tensor, chunks) for tensor in (self.log_decay, self.seq_idx, self.first))
            yield _Tile(*cut), chunks

    def tokens(self, chunks: slice) -> slice:
        """The tokens of a slice of chunks."""
        return slice(chunks.start * self.chunk, min(chunks.stop * self.chunk, self.n_tokens))

    def cut(self, tensor: Tensor, chunks: slice) -> Tensor:
        """(T, ...) to (K, Q, ...)."""
        part = tensor[self.tokens(chunks)]
        missing = (chunks.stop - chunks.start) * self.chunk - len(part)
        if missing:
            part = torch.cat([part, part.new_zeros(missing, *part.shape[1:])])
        return part.unflatten(0, (-1, self.chunk))

    def put(self, into: Tensor, chunks: slice, tile: Tensor) -> None:
        """The reverse of :meth:`cut`."""
        part = into[self.tokens(chunks)]
        part.copy_(tile.flatten(0, 1)[: len(part)].view(part.shape))


def _scaled(tensor: Tensor, factor: Tensor) -> Tensor:
    """(K, Q, H, P) times (K, Q, H) as columns (K, Q, H P)."""
    return (tensor * factor[..., None]).flatten(2)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(K, Q, H, P) twice to the products of their heads (K, Q, H)."""
    return torch.einsum("kqhp,kqhp->kqh", a, b)


def _across(factor: Tensor, P: int) -> Tensor:
    """(K, H) to one factor for each column, (K, 1, H P)."""
    return factor.repeat_interleave(P, 1)[:, None]


class _Scan(torch.autograd.Function):
    """x (T, H, P), dt and log_decay (T, H), B and C (T, G, N), D (H,) or None to y (T, H, P)."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        x, dt, log_decay, B, C, D, cu_seqlens = arguments
        (T, H, P), (_, G, N) = x.shape, B.shape
        stream = _Stream(log_decay, cu_seqlens, H * P)
        groups = _column_groups(H, P, G)
        y = x.new_empty(T, H, P)
        states = x.new_empty(stream.n_chunks + 1, N, H * P)  # entering each chunk
        states[0] = 0.0
        for tile, chunks in stream.tiles():
            x_t, dt_t, B_t, C_t = (stream.cut(tensor, chunks) for tensor in (x, dt, B, C))
            x_fall = _scaled(x_t, dt_t * tile.fall)
            half = _across(tile.half, P)
            added = x.new_empty(len(x_fall), N, H * P)
            for g, columns in groups:
                torch.bmm((B_t[:, :, g] * tile.kept).mT, x_fall[..., columns], out=added[..., columns])
            added *= half
            _pass(states[chunks.start : chunks.stop + 1].unbind(), _across(tile.passing, P).unbind(), added.unbind())
            entering = states[chunks]
            inner = x_fall.new_empty(x_fall.shape)
            for g, columns in groups:
                scores = torch.bmm(C_t[:, :, g], B_t[:, :, g].mT).mul_(tile.mask)
                carried = entering[..., columns] * half[..., columns]
                torch.bmm(scores, x_fall[..., columns], out=inner[..., columns])
                inner[..., columns].baddbmm_(C_t[:, :, g] * tile.reached, carried)
            stream.put(y, chunks, _scaled(inner.unflatten(2, (H, P)), tile.rise))
        ctx.save_for_backward(x, dt, B, C, D, y, states, cu_seqlens)
        ctx.stream = stream
        return y if D is None else torch.addcmul(y, x, D[:, None])

    @staticmethod
    @without_autocast
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, dt, B, C, D, y, states, cu_seqlens = ctx.saved_tensors
        stream: _Stream = ctx.stream
        (T, H, P), (_, G, N) = x.shape, B.shape
        groups = _column_groups(H, P, G)
        dx, d_dt, decayed = dy.new_empty(T, H, P), dy.new_empty(T, H), dy.new_empty(T, H)
        dB, dC = dy.new_empty(T, G, N), dy.new_empty(T, G, N)
        d_state = dy.new_zeros(N, H * P)  # of the state that leaves the last chunk of the tile at hand
        for tile, chunks in stream.tiles(reverse=True):
            cut = (stream.cut(tensor, chunks) for tensor in (x, dt, B, C, dy, y))
            x_t, dt_t, B_t, C_t, dy_t, y_t = cut
            x_fall = _scaled(x_t, dt_t * tile.fall)
            dy_rise = _scaled(dy_t, tile.rise)
            half, passing = _across(tile.half, P), _across(tile.passing, P)
            d_added = dy.new_empty(len(x_fall), N, H * P)
            for g, columns in groups:
                torch.bmm((C_t[:, :, g] * tile.reached).mT, dy_rise[..., columns], out=d_added[..., columns])
            d_added *= half
            d_states = dy.new_empty(len(x_fall) + 1, N, H * P)
            d_states[-1] = d_state
            _pass(d_states.unbind()[::-1], passing.unbind()[::-1], d_added.unbind()[::-1])
            d_state = d_states[0].clone()
            carried, d_leaving = states[chunks] * half, d_states[1:].mul_(half)
            dx_fall = torch.empty_like(x_fall)
            dB_t, dC_t = torch.empty_like(B_t), torch.empty_like(C_t)
            for g, columns in groups:
                B_g, C_g, dy_g, x_g = B_t[:, :, g], C_t[:, :, g], dy_rise[..., columns], x_fall[..., columns]
                scores = torch.bmm(C_g, B_g.mT).mul_(tile.mask)
                d_scores = torch.bmm(dy_g, x_g.mT).mul_(tile.mask)
                torch.bmm(scores.mT, dy_g, out=dx_fall[..., columns])
                dx_fall[..., columns].baddbmm_(B_g * tile.kept, d_leaving[..., columns])
                dC_t[:, :, g] = torch.bmm(dy_g, carried[..., columns].mT).mul_(tile.reached).baddbmm_(d_scores, B_g)
                dB_t[:, :, g] = torch.bmm(x_g, d_leaving[..., columns].mT).mul_(tile.kept).baddbmm_(d_scores.mT, C_g)
            d_xdt = dx_fall.unflatten(2, (H, P)) * tile.fall[..., None]
            by_x = _dot(d_xdt, x_t)
            stream.put(d_dt, chunks, by_x)
            # Every pair (j, i) of tokens counts in log_decay of the tokens after j up to i: so its gradient is a sum
            # over later tokens, of what each output holds less what each input has given.
            stream.put(decayed, chunks, _dot(dy_t, y_t) - by_x * dt_t)
            stream.put(dx, chunks, d_xdt.mul_(dt_t[..., None]))
            stream.put(dB, chunks, dB_t)
            stream.put(dC, chunks, dC_t)
        if D is not None:
            dx.addcmul_(dy, D[:, None])
        dD = (dy * x).sum((0, 2)) if D is not None else None
        d_log_decay = _sum_of_later(decayed, cu_seqlens).masked_fill_(stream.first[:, None], 0.0)
        return dx, d_dt, d_log_decay, dB, dC, dD, None


def _pass(states: Sequence[Tensor], passing: Sequence[Tensor], added: Sequence[Tensor]) -> None:
    """``states[k + 1] = passing[k] states[k] + added[k]``, written in place from ``states[0]`` on."""
    for state, following, factor, more in zip(states, states[1:], passing, added, strict=False):
        torch.addcmul(more, factor, state, out=following)


def _column_groups(H: int, P: int, G: int) -> list[tuple[int, slice]]:
    """Each group of heads, and its columns."""
    width = H // G * P
    return [(g, slice(g * width, (g + 1) * width)) for g in range(G)]


def _sum_of_later(values: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Sum over each token and those after it in its sequence. In float64, since the sums nearly cancel."""
    running = F.pad(values.flip(0).double().cumsum(0), (0, 0, 1, 0)).flip(0)  # running[t]: from t to the stream's end
    after = running[cu_seqlens[1:].long()].repeat_interleave(lengths_of(cu_seqlens), 0, output_size=len(values))
    return (running[:-1] - after).to(values.dtype)
