"""The Triton kernels of ``ssd``, over chunks of Q tokens that cut the packed stream regardless of borders.

Tokens are counted in the order of reading: k is token k of the stream, or token T - 1 - k in reverse. What several
kernels take:

- ``seq``: (T,) int32, the sequence of token k.
- ``decay``: (2, H, T), the sum of ``dt A`` up to and with token k, from the start of the chunk, or of the sequence if
  it starts in there. First the rounded sum, then what rounding took away, since differences are taken.
- ``entering``: (chunks, H, P, N), the state that enters a chunk from the one before. ``leaving``: the gradient of the
  state that leaves it for the next. Only what crosses a border of chunks is ever written or read.
- ``initial``, ``d_final``: (S, H, P, N), read if ``INITIAL`` or ``FINAL``.
- ``x_row`` (and dt, B, C): elements from one token to the next.

A program of ``outputs`` and ``gradients`` has a chunk and some heads of a group; no result depends on the order in
which programs end. Nothing is compiled again for another number of tokens or sequences.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOWEST_LOG_DECAY = tl.constexpr(-20.0)
"""Of one step: exp(-20) is less than float32 resolves next to 1."""


@triton.jit
def _token(k, T, REVERSE: tl.constexpr):  # type: ignore[no-untyped-def]  # in Triton's language, which has no types
    return (T - 1 - k if REVERSE else k).to(tl.int64)


@triton.jit
def _rows(tensor, t, row, first, column, COLUMNS: tl.constexpr, valid):  # type: ignore[no-untyped-def]  # likewise
    mask = valid[:, None] & (column < COLUMNS)[None, :]
    return tl.load(tensor + t[:, None] * row + (first + column)[None, :], mask, 0.0).to(tl.float32)


@triton.jit
def _decays(decay, h, k, T, H: tl.constexpr, valid):  # type: ignore[no-untyped-def]  # likewise
    at = decay + tl.cast(h, tl.int64) * T + k
    return tl.load(at, valid, 0.0), tl.load(at + tl.cast(T, tl.int64) * H, valid, 0.0)


@triton.jit
def _state(kept, given, GIVEN: tl.constexpr, crosses, c, s, h, p, n, H: tl.constexpr, P: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]  # likewise
    """Of sequence s at the border of chunk c, (p, n): kept if it ``crosses`` it, and given otherwise."""
    is_state = (p < P)[:, None] & (n < N)[None, :]
    at = p[:, None] * N + n[None, :]
    state = tl.load(kept + (tl.cast(c, tl.int64) * H + h) * (P * N) + at, is_state & crosses, 0.0)
    if GIVEN:
        other = tl.load(given + (tl.cast(s, tl.int64) * H + h) * (P * N) + at, is_state & (crosses == 0), 0.0)
        state += other.to(tl.float32)
    return state


@triton.jit
def _chunk(seq, c, T, REVERSE: tl.constexpr, Q: tl.constexpr):  # type: ignore[no-untyped-def]  # likewise
    """Of its tokens: number in the chunk, k, whether there is one, number in the stream, sequence."""
    i = tl.arange(0, Q)
    k = c * Q + i
    valid = k < T
    return i, k, valid, _token(k, T, REVERSE), tl.load(seq + k, valid, -1)


@triton.jit
def _borders(seq, c, T, INITIAL: tl.constexpr, FINAL: tl.constexpr, Q: tl.constexpr):  # type: ignore[no-untyped-def]  # likewise
    """First sequence of a chunk, whether it enters, range of those with a state before; the same of last and after."""
    start, stop = c * Q, tl.minimum(c * Q + Q, T)
    first, last = tl.load(seq + start), tl.load(seq + stop - 1)
    enters, leaves = first == tl.load(seq + start - 1, start > 0, -1), last == tl.load(seq + stop, stop < T, -1)
    before, before_end, after, after_end = first, first + enters.to(tl.int32), last, last + leaves.to(tl.int32)
    if INITIAL:
        before, before_end = tl.minimum(first, last), tl.maximum(first, last) + 1
    if FINAL:
        after, after_end = tl.minimum(first, last), tl.maximum(first, last) + 1
    return first, enters, before, before_end, last, leaves, after, after_end


@triton.jit
def _between(high, low, sees):  # type: ignore[no-untyped-def]  # likewise
    """The decay from token j to token i, (i, j), 0 unless i sees j; no positive number goes into exp."""
    difference = (high[:, None] - high[None, :]) + (low[:, None] - low[None, :])
    return tl.where(sees, tl.exp(tl.where(sees, difference, 0.0)), 0.0)


@triton.jit
def _scores(  # type: ignore[no-untyped-def]  # likewise
    B, C, t, B_row, C_row, g, valid, N: tl.constexpr, Q: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """C B^T of a chunk, (i, j)."""
    scores = tl.zeros((Q, Q), tl.float32)
    for n0 in range(0, N, BLOCK_N):
        n = n0 + tl.arange(0, BLOCK_N)
        Bs, Cs = _rows(B, t, B_row, g, n, N, valid), _rows(C, t, C_row, g, n, N, valid)
        scores += tl.dot(Cs, tl.trans(Bs), input_precision=PRECISION)
    return scores


@triton.jit
def _within(total, begun, more, begins):  # type: ignore[no-untyped-def]  # likewise
    return tl.where(begins > 0, more, total + more), begun | begins


@triton.jit(do_not_specialize=["T", "S", "rounds"])
def prepare(  # type: ignore[no-untyped-def]  # likewise
    dt, A, cu_seqlens, seq, decay, T, S, rounds, dt_row,
    H: tl.constexpr, REVERSE: tl.constexpr, Q: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """Write ``seq``, by bisection of the borders in so many rounds, and ``decay``. Grid: chunks, blocks of heads."""
    k = tl.program_id(0) * Q + tl.arange(0, Q)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    valid = k < T
    t = tl.where(valid, _token(k, T, REVERSE), 0)
    low, high = tl.zeros((Q,), tl.int32), tl.zeros((Q,), tl.int32) + S
    for _ in range(rounds):
        middle = (low + high) // 2
        ended = tl.load(cu_seqlens + 1 + middle, valid, 0) <= t
        low, high = tl.where(ended, middle + 1, low), tl.where(ended, high, middle)
    first = tl.load(cu_seqlens + low + 1, valid, 0) - 1 if REVERSE else tl.load(cu_seqlens + low, valid, 0)
    mask = valid[:, None] & (h < H)[None, :]
    steps = tl.load(dt + t[:, None] * dt_row + h[None, :], mask, 0.0).to(tl.float64)
    steps = tl.maximum(steps * tl.load(A + h, h < H, 0.0).to(tl.float64)[None, :], LOWEST_LOG_DECAY)
    begins = tl.broadcast_to((t == first).to(tl.int32)[:, None], (Q, BLOCK_H))
    exact, _ = tl.associative_scan((steps, begins), 0, _within)
    rounded = exact.to(tl.float32)
    into = decay + h.to(tl.int64)[None, :] * T + k[:, None]
    tl.store(into, rounded, mask)
    tl.store(into + tl.cast(T, tl.int64) * H, (exact - rounded.to(tl.float64)).to(tl.float32), mask)
    if tl.program_id(1) == 0:
        tl.store(seq + k, low, valid)


@triton.jit(do_not_specialize=["T"])
def carry(  # type: ignore[no-untyped-def]  # likewise
    x, B, dt, seq, decay, cu_seqlens, start_state, kept, end_state, T, x_row, B_row, dt_row,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, G: tl.constexpr, REVERSE: tl.constexpr,
    BACKWARD: tl.constexpr, START: tl.constexpr, END: tl.constexpr,
    Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Walk along a sequence and keep the state at each border of chunks that it crosses.

    ``BACKWARD`` walks back with the gradient of the state: x and B are then dy and C. The state starts from
    ``start_state`` if ``START``, and the last one is written into ``end_state`` if ``END``. Grid: sequences if ``END``,
    and otherwise borders of chunks, each for the sequence that crosses it first; heads; blocks of P.
    """
    number, h = tl.program_id(0), tl.program_id(1)
    p, n = tl.program_id(2) * BLOCK_P + tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_N)
    s = number if END else tl.load(seq + number * Q + Q - 1)
    start, end = tl.load(cu_seqlens + s), tl.load(cu_seqlens + s + 1)
    if REVERSE:
        start, end = T - end, T - start
    first, last = start // Q, (end - 1) // Q
    if END:
        crossed = tl.where(end > start, last - first, -1)
        steps = crossed + 1
    else:
        crossed = tl.where(first == number, last - first, 0)
        steps = crossed
    is_state = (p < P)[:, None] & (n < N)[None, :]
    at = h.to(tl.int64) * (P * N) + p[:, None] * N + n[None, :]
    state = tl.zeros((BLOCK_P, BLOCK_N), tl.float32)
    if START:
        state += tl.load(start_state + tl.cast(s, tl.int64) * (H * P * N) + at, is_state, 0.0).to(tl.float32)
    for i in range(steps):
        c = last - i if BACKWARD else first + i
        k = c * Q + tl.arange(0, Q)
        valid = (k >= start) & (k < end)
        t = _token(k, T, REVERSE)
        xs = _rows(x, t, x_row, h * P, p, P, valid)
        bs = _rows(B, t, B_row, h // (H // G) * N, n, N, valid)
        rounded, rest = _decays(decay, h, k, T, H, valid)
        whole, whole_rest = _decays(decay, h, tl.minimum(end, c * Q + Q) - 1, T, H, True)
        if BACKWARD:
            weight = tl.exp(rounded)
        else:
            weight = tl.exp(tl.where(valid, (whole - rounded) + (whole_rest - rest), 0.0))
            weight *= tl.load(dt + t * dt_row + h, valid, 0.0).to(tl.float32)
        state = state * tl.exp(whole) + tl.dot(tl.trans(xs * weight[:, None]), bs, input_precision=PRECISION)
        beyond = tl.cast(c - 1 if BACKWARD else c + 1, tl.int64)
        tl.store(kept + beyond * (H * P * N) + at, state, is_state & (i < crossed))
    if END:
        tl.store(end_state + tl.cast(s, tl.int64) * (H * P * N) + at, state, is_state)


@triton.jit(do_not_specialize=["T"])
def outputs(  # type: ignore[no-untyped-def]  # likewise
    x, dt, B, C, D, seq, decay, entering, initial, y, T, x_row, dt_row, B_row, C_row,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, G: tl.constexpr, REVERSE: tl.constexpr,
    HAS_D: tl.constexpr, INITIAL: tl.constexpr, HEADS: tl.constexpr,
    Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write y (T, H, P). Grid: chunks, H / HEADS."""
    c, first_head = tl.program_id(0), tl.program_id(1) * HEADS
    i, k, valid, t, s_i = _chunk(seq, c, T, REVERSE, Q)
    sees = (s_i[:, None] == s_i[None, :]) & (i[:, None] >= i[None, :])
    g = first_head // (H // G) * N
    scores = _scores(B, C, t, B_row, C_row, g, valid, N, Q, BLOCK_N, PRECISION)
    first, enters, before, before_end, _, _, _, _ = _borders(seq, c, T, INITIAL, False, Q)
    for h in range(first_head, first_head + HEADS):
        rounded, rest = _decays(decay, h, k, T, H, valid)
        dts = tl.load(dt + t * dt_row + h, valid, 0.0).to(tl.float32)
        weights = scores * _between(rounded, rest, sees) * dts[None, :]
        for p0 in range(0, P, BLOCK_P):
            p = p0 + tl.arange(0, BLOCK_P)
            xs = _rows(x, t, x_row, h * P, p, P, valid)
            ys = tl.dot(weights, xs, input_precision=PRECISION)
            for s in range(before, before_end):
                for n0 in range(0, N, BLOCK_N):
                    n = n0 + tl.arange(0, BLOCK_N)
                    state = _state(entering, initial, INITIAL, (s == first) & enters, c, s, h, p, n, H, P, N)
                    Cs = _rows(C, t, C_row, g, n, N, valid) * tl.where(s_i == s, tl.exp(rounded), 0.0)[:, None]
                    ys += tl.dot(Cs, tl.trans(state), input_precision=PRECISION)
            if HAS_D:
                ys += tl.load(D + h).to(tl.float32) * xs
            tl.store(y + t[:, None] * (H * P) + (h * P + p)[None, :], ys, valid[:, None] & (p < P)[None, :])


@triton.jit
def _among_tokens(  # type: ignore[no-untyped-def]  # likewise
    x, dy, h, t, valid, x_row, scores, between, dts,
    H: tl.constexpr, P: tl.constexpr, Q: tl.constexpr, BLOCK_P: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of C B^T, that of ``dt x`` times x, and by token what it takes from earlier ones less what it gives.

    All three come of the same products, so that what should cancel does.
    """
    products = tl.zeros((Q, Q), tl.float32)
    for p0 in range(0, P, BLOCK_P):
        p = p0 + tl.arange(0, BLOCK_P)
        xs, dys = _rows(x, t, x_row, h * P, p, P, valid), _rows(dy, t, H * P, h * P, p, P, valid)
        products += tl.dot(dys, tl.trans(xs), input_precision=PRECISION)
    products *= between
    d_scores = products * dts[None, :]
    products *= scores
    by_input = tl.sum(products, 0)
    return d_scores, by_input, tl.sum(products * dts[None, :], 1) - by_input * dts


@triton.jit
def _store_inputs(  # type: ignore[no-untyped-def]  # likewise
    dx, x, dy, B, D, leaving, d_final, near, dts, fall, seq, s_i, c, T, h, t, valid, x_row, B_row, g,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, HAS_D: tl.constexpr, FINAL: tl.constexpr,
    Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dx, from later tokens (``near``) and from states after them; returns the gradient of D."""
    _, _, _, _, last, leaves, after, after_end = _borders(seq, c, T, False, FINAL, Q)
    by_D = tl.zeros((Q,), tl.float32)
    for p0 in range(0, P, BLOCK_P):
        p = p0 + tl.arange(0, BLOCK_P)
        dys = _rows(dy, t, H * P, h * P, p, P, valid)
        du = tl.dot(near, dys, input_precision=PRECISION)
        for s in range(after, after_end):
            for n0 in range(0, N, BLOCK_N):
                n = n0 + tl.arange(0, BLOCK_N)
                d_state = _state(leaving, d_final, FINAL, (s == last) & leaves, c, s, h, p, n, H, P, N)
                Bs = _rows(B, t, B_row, g, n, N, valid) * tl.where(s_i == s, fall, 0.0)[:, None]
                du += tl.dot(Bs, tl.trans(d_state), input_precision=PRECISION)
        dxs = du * dts[:, None]
        if HAS_D:
            dxs += tl.load(D + h).to(tl.float32) * dys
            by_D += tl.sum(_rows(x, t, x_row, h * P, p, P, valid) * dys, 1)
        tl.store(dx + t[:, None] * (H * P) + (h * P + p)[None, :], dxs, valid[:, None] & (p < P)[None, :])
    return tl.sum(by_D, 0)


@triton.jit
def _with_states(  # type: ignore[no-untyped-def]  # likewise
    x, dy, dts, rise, fall, dBs, dCs, through, entering, initial, leaving, d_final,
    seq, s_i, c, T, h, t, valid, x_row, n, H: tl.constexpr, P: tl.constexpr, N: tl.constexpr,
    INITIAL: tl.constexpr, FINAL: tl.constexpr, Q: tl.constexpr, BLOCK_P: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add to dB (of ``dt x``) and dC what states after and before the tokens give, and to ``through`` their product."""
    first, enters, before, before_end, last, leaves, after, after_end = _borders(seq, c, T, INITIAL, FINAL, Q)
    for p0 in range(0, P, BLOCK_P):
        p = p0 + tl.arange(0, BLOCK_P)
        for s in range(before, before_end):
            state = _state(entering, initial, INITIAL, (s == first) & enters, c, s, h, p, n, H, P, N)
            dys = _rows(dy, t, H * P, h * P, p, P, valid) * tl.where(s_i == s, rise, 0.0)[:, None]
            dCs += tl.dot(dys, state, input_precision=PRECISION)
        for s in range(after, after_end):
            d_state = _state(leaving, d_final, FINAL, (s == last) & leaves, c, s, h, p, n, H, P, N)
            xs = _rows(x, t, x_row, h * P, p, P, valid) * tl.where(s_i == s, fall, 0.0)[:, None]
            dBs += tl.dot(xs, d_state, input_precision=PRECISION)
            d_state *= _state(entering, initial, INITIAL, (s == first) & enters, c, s, h, p, n, H, P, N)
            through += tl.where(s_i == s, tl.sum(tl.sum(d_state, 1), 0), 0.0)
    return dBs, dCs, through


@triton.jit
def _store_B_and_C(  # type: ignore[no-untyped-def]  # likewise
    dB, dC, Bs, Cs, dBs, dCs, d_scores, split, T, t, g, n, valid, G: tl.constexpr, N: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dB and dC, from states and from scores."""
    at = (tl.cast(split, tl.int64) * T + t)[:, None] * (G * N) + (g + n)[None, :]
    mask = valid[:, None] & (n < N)[None, :]
    tl.store(dB + at, dBs + tl.dot(tl.trans(d_scores), Cs, input_precision=PRECISION), mask)
    tl.store(dC + at, dCs + tl.dot(d_scores, Bs, input_precision=PRECISION), mask)


@triton.jit
def _store_steps(  # type: ignore[no-untyped-def]  # likewise
    d_dt, dA, A, dts, by_input, taken, given, through, s_i, i, t, valid, c, h, H: tl.constexpr
):  # fmt: skip
    """Write the gradients of dt and A; ``by_input`` is that of ``dt x``, times x.

    The gradient of a step's log decay is a sum over all pairs of tokens with the step between them, of what the earlier
    gives to the later, times the gradient of that. States count as tokens before and after the chunk.
    """
    same = s_i[:, None] == s_i[None, :]
    later, earlier = same & (i[:, None] >= i[None, :]), same & (i[:, None] < i[None, :])
    d_step = tl.sum(tl.where(later, taken[:, None], 0.0) + tl.where(earlier, given[:, None], 0.0), 0) + through
    a = tl.load(A + h).to(tl.float32)
    d_step = tl.where(valid & (dts * a >= LOWEST_LOG_DECAY), d_step, 0.0)
    tl.store(d_dt + t * H + h, by_input + a * d_step, valid)
    tl.store(dA + c * H + h, tl.sum(d_step * dts, 0))


@triton.jit(do_not_specialize=["T"])
def gradients(  # type: ignore[no-untyped-def]  # likewise
    x, dt, A, B, C, D, seq, decay, entering, initial, leaving, d_final, dy, dx, d_dt, dB, dC, dA, dD,
    T, x_row, dt_row, B_row, C_row,
    H: tl.constexpr, P: tl.constexpr, N: tl.constexpr, G: tl.constexpr, REVERSE: tl.constexpr,
    HAS_D: tl.constexpr, INITIAL: tl.constexpr, FINAL: tl.constexpr, HEADS: tl.constexpr,
    Q: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write dx (T, H, P), d_dt (T, H), and what is yet to be summed over its first axis.

    These are dB and dC (H / G / HEADS, T, G, N), and dA and dD (chunks, H). HEADS is 1 if N exceeds its block. Grid:
    chunks, H / HEADS.
    """
    c, first_head = tl.program_id(0), tl.program_id(1) * HEADS
    i, k, valid, t, s_i = _chunk(seq, c, T, REVERSE, Q)
    same = s_i[:, None] == s_i[None, :]
    end = c * Q + tl.max(tl.where(same, i[:, None], 0), 0)  # the last token of the same sequence in the chunk
    n, g, split = tl.arange(0, BLOCK_N), first_head // (H // G) * N, first_head % (H // G) // HEADS
    scores = _scores(B, C, t, B_row, C_row, g, valid, N, Q, BLOCK_N, PRECISION)
    d_scores, nothing = tl.zeros((Q, Q), tl.float32), tl.zeros((Q, BLOCK_N), tl.float32)
    dBs, dCs, none = nothing, nothing, tl.zeros((Q,), tl.float32)
    for h in range(first_head, first_head + HEADS):
        rounded, rest = _decays(decay, h, k, T, H, valid)
        whole, whole_rest = _decays(decay, h, end, T, H, valid)
        fall = tl.exp(tl.where(valid, (whole - rounded) + (whole_rest - rest), 0.0))
        between = _between(rounded, rest, same & (i[:, None] >= i[None, :]))
        dts = tl.load(dt + t * dt_row + h, valid, 0.0).to(tl.float32)
        more = _among_tokens(x, dy, h, t, valid, x_row, scores, between, dts, H, P, Q, BLOCK_P, PRECISION)
        d_scores, by_input, taken, given, through = d_scores + more[0], more[1], more[2], none, none
        by_D = _store_inputs(
            dx, x, dy, B, D, leaving, d_final, tl.trans(scores * between), dts, fall, seq, s_i, c, T, h, t, valid,
            x_row, B_row, g, H, P, N, HAS_D, FINAL, Q, BLOCK_P, BLOCK_N, PRECISION,
        )  # fmt: skip
        for n0 in range(0, N, BLOCK_N):
            Bs, Cs = _rows(B, t, B_row, g, n0 + n, N, valid), _rows(C, t, C_row, g, n0 + n, N, valid)
            B_part, C_part, through = _with_states(
                x, dy, dts, tl.exp(rounded), fall, nothing, nothing, through, entering, initial, leaving, d_final, seq,
                s_i, c, T, h, t, valid, x_row, n0 + n, H, P, N, INITIAL, FINAL, Q, BLOCK_P, PRECISION,
            )  # fmt: skip
            given, taken = given + tl.sum(B_part * Bs, 1), taken + tl.sum(C_part * Cs, 1)
            dBs, dCs = dBs + B_part * dts[:, None], dCs + C_part
            if N > BLOCK_N:
                _store_B_and_C(dB, dC, Bs, Cs, dBs, dCs, d_scores, split, T, t, g, n0 + n, valid, G, N, PRECISION)
                dBs, dCs = nothing, nothing
        through *= tl.exp(whole)
        _store_steps(d_dt, dA, A, dts, by_input + given, taken, given * dts, through, s_i, i, t, valid, c, h, H)
        if HAS_D:
            tl.store(dD + c * H + h, by_D)
    if N <= BLOCK_N:
        Bs, Cs = _rows(B, t, B_row, g, n, N, valid), _rows(C, t, C_row, g, n, N, valid)
        _store_B_and_C(dB, dC, Bs, Cs, dBs, dCs, d_scores, split, T, t, g, n, valid, G, N, PRECISION)
