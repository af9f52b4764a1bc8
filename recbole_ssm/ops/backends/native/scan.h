/* Mamba's recurrence, in which every state of a channel decays at a rate of its own, step by step:
 *
 *     h[t] = exp(dt[t] A) h[t-1] + dt[t] u[t] B[t]        y[t] = h[t] C[t] + D u[t]
 *
 * States are kept once in SEGMENT steps, and the backward pass computes those in between again.
 *
 * W vectors of channels, from channel e0 on, are worked on together; only a single one (W = 1) may be filled in part, by
 * `width` channels. Arrays of vectors are [state][vector]. */

INLINE int64_t VARIANT(token)(const Scan *s, int64_t sequence, int64_t i) {
    return s->reverse ? s->cu_seqlens[sequence + 1] - 1 - i : s->cu_seqlens[sequence] + i;
}

/* One step of W vectors: h goes from `before` to `after`. If decays is given, the factors of all states are kept there.
 * `out`, if given, gets the sum over states of h C. */
INLINE void VARIANT(step)(const Scan *s, int W, int64_t t, int64_t e0, int64_t width, const vec *before, vec *after,
                          vec *decays, vec *out) {
    const int64_t E = s->channels, N = s->states;
    const float *B = s->B + t * s->B_row, *C = s->C + t * s->C_row;
    vec dt[MOST_VECTORS], input[MOST_VECTORS], sum[MOST_VECTORS];
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        dt[w] = VARIANT(load)(s->dt + t * s->dt_row + e, width);
        input[w] = dt[w] * VARIANT(load)(s->u + t * s->u_row + e, width);
        sum[w] = (vec){0};
    }
    for (int64_t n = 0; n < N; n++)
        FOR_VECTORS(w, W) {
            const vec decay = VARIANT(exp)(dt[w] * VARIANT(load)(s->A + n * E + e0 + w * LANES, width));
            if (decays) decays[n * W + w] = decay;
            const vec h = decay * before[n * W + w] + input[w] * B[n];
            after[n * W + w] = h;
            if (out) sum[w] += h * C[n];
        }
    if (out) FOR_VECTORS(w, W) out[w] = sum[w];
}

INLINE void VARIANT(forward_channels)(const Scan *s, int W, int64_t e0, int64_t width, vec *h, float *y, float *final,
                                      float *kept) {
    const int64_t E = s->channels, N = s->states;
    for (int64_t q = 0; q < s->sequences; q++) {
        const int64_t length = s->cu_seqlens[q + 1] - s->cu_seqlens[q];
        for (int64_t n = 0; n < N; n++)
            FOR_VECTORS(w, W)
                h[n * W + w] = s->initial ? VARIANT(load)(s->initial + (q * N + n) * E + e0 + w * LANES, width) : (vec){0};
        for (int64_t i = 0; i < length; i++) {
            if (kept && i % SEGMENT == 0 && (i || s->initial))
                for (int64_t n = 0; n < N; n++)
                    FOR_VECTORS(w, W)
                        VARIANT(store)(kept + ((s->checkpoint[q] + i / SEGMENT) * N + n) * E + e0 + w * LANES, h[n * W + w], width);
            const int64_t t = VARIANT(token)(s, q, i);
            vec out[MOST_VECTORS];
            VARIANT(step)(s, W, t, e0, width, h, h, NULL, out);
            FOR_VECTORS(w, W) {
                const int64_t e = e0 + w * LANES;
                if (s->D) out[w] += VARIANT(load)(s->D + e, width) * VARIANT(load)(s->u + t * s->u_row + e, width);
                VARIANT(store)(y + t * E + e, out[w], width);
            }
        }
        if (final)
            for (int64_t n = 0; n < N; n++)
                FOR_VECTORS(w, W) VARIANT(store)(final + (q * N + n) * E + e0 + w * LANES, h[n * W + w], width);
    }
}

/* One step of W vectors backwards: dh goes from the state after token t to the state before it. dB and dC (N) are room for
 * sums over the W vectors, lane by lane. */
INLINE void VARIANT(step_back)(const Scan *s, const ScanGradients *g, int W, int64_t t, int64_t e0, int64_t width,
                               const vec *before, const vec *after, const vec *decays, vec *dh, vec *dB, vec *dC) {
    const int64_t E = s->channels, N = s->states;
    const float *B = s->B + t * s->B_row, *C = s->C + t * s->C_row;
    vec u[MOST_VECTORS], dt[MOST_VECTORS], dy[MOST_VECTORS], by_input[MOST_VECTORS], by_decay[MOST_VECTORS];
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        u[w] = VARIANT(load)(s->u + t * s->u_row + e, width);
        dt[w] = VARIANT(load)(s->dt + t * s->dt_row + e, width);
        dy[w] = VARIANT(load)(g->dy + t * E + e, width);
        by_input[w] = by_decay[w] = (vec){0};
    }
    for (int64_t n = 0; n < N; n++) {
        vec dB_n = {0}, dC_n = {0};
        FOR_VECTORS(w, W) {
            const int64_t i = n * W + w;
            const vec d = dh[i] + dy[w] * C[n];
            by_input[w] += d * B[n];
            dB_n += d * (dt[w] * u[w]);
            dC_n += after[i] * dy[w];
            float *dA = g->dA + n * E + e0 + w * LANES;
            const vec left = d * decays[i], d_log_decay = left * before[i];
            by_decay[w] += d_log_decay * VARIANT(load)(s->A + n * E + e0 + w * LANES, width);
            VARIANT(store)(dA, VARIANT(load)(dA, width) + d_log_decay * dt[w], width);
            dh[i] = left;
        }
        dB[n] = dB_n;
        dC[n] = dC_n;
    }
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        vec du = by_input[w] * dt[w];
        if (s->D) {
            du += VARIANT(load)(s->D + e, width) * dy[w];
            VARIANT(store)(g->dD + e, VARIANT(load)(g->dD + e, width) + dy[w] * u[w], width);
        }
        VARIANT(store)(g->du + t * E + e, du, width);
        VARIANT(store)(g->d_dt + t * E + e, by_input[w] * u[w] + by_decay[w], width);
    }
    VARIANT(add_sums)(g->dB + t * N, dB, N);
    VARIANT(add_sums)(g->dC + t * N, dC, N);
}

INLINE void VARIANT(backward_channels)(const Scan *s, const ScanGradients *g, int W, int64_t e0, int64_t width, vec *work) {
    const int64_t E = s->channels, N = s->states, size = N * W;
    vec *dh = work, *states = dh + size, *decays = states + (SEGMENT + 1) * size, *dB = decays + SEGMENT * size, *dC = dB + N;
    for (int64_t q = 0; q < s->sequences; q++) {
        const int64_t length = s->cu_seqlens[q + 1] - s->cu_seqlens[q];
        for (int64_t n = 0; n < N; n++)
            FOR_VECTORS(w, W)
                dh[n * W + w] = g->d_final ? VARIANT(load)(g->d_final + (q * N + n) * E + e0 + w * LANES, width) : (vec){0};
        for (int64_t segment = (length + SEGMENT - 1) / SEGMENT - 1; segment >= 0; segment--) {
            const int64_t first = segment * SEGMENT, steps = SMALLER(length - first, SEGMENT);
            const float *kept = g->kept + (s->checkpoint[q] + segment) * N * E + e0;
            const int zero = !segment && !s->initial; /* such a state is not kept */
            for (int64_t n = 0; n < N; n++)
                FOR_VECTORS(w, W)
                    states[n * W + w] = zero ? (vec){0} : VARIANT(load)(kept + n * E + w * LANES, width);
            for (int64_t i = 0; i < steps; i++)
                VARIANT(step)(s, W, VARIANT(token)(s, q, first + i), e0, width, states + i * size, states + (i + 1) * size,
                              decays + i * size, NULL);
            for (int64_t i = steps - 1; i >= 0; i--)
                VARIANT(step_back)(s, g, W, VARIANT(token)(s, q, first + i), e0, width, states + i * size, states + (i + 1) * size,
                                   decays + i * size, dh, dB, dC);
        }
        if (g->d_initial)
            for (int64_t n = 0; n < N; n++)
                FOR_VECTORS(w, W)
                    VARIANT(store)(g->d_initial + (q * N + n) * E + e0 + w * LANES, dh[n * W + w], width);
    }
}

/* ---- a share of the channels ---- */

static void VARIANT(scan)(const Scan *s, int64_t first, int64_t last, void *h, float *y, float *final, float *kept) {
#define SCAN(W, width) VARIANT(forward_channels)(s, W, e0, width, h, y, final, kept)
    FOR_CHANNELS(first, last, SCAN);
#undef SCAN
}

static void VARIANT(scan_backward)(const Scan *s, const ScanGradients *g, int64_t first, int64_t last, void *work) {
#define SCAN(W, width) VARIANT(backward_channels)(s, g, W, e0, width, work)
    FOR_CHANNELS(first, last, SCAN);
#undef SCAN
}
