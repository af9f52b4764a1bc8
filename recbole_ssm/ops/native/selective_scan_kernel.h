/* The loops of selective_scan.c, which includes this file once for each kind of machine: VARIANT(name) is the name of a
 * function for the kind at hand. Channels stand side by side in a vec; width is how many of its lanes are used. */

INLINE vec VARIANT(load)(const float *from, int64_t width) {
    vec v = {0};
    if (width == LANES)
        memcpy(&v, from, sizeof v);
    else
        memcpy(&v, from, width * sizeof(float));
    return v;
}

INLINE void VARIANT(store)(float *to, vec v, int64_t width) {
    if (width == LANES)
        memcpy(to, &v, sizeof v);
    else
        memcpy(to, &v, width * sizeof(float));
}

INLINE float VARIANT(sum_of)(vec v) {
    float lanes[LANES];
    memcpy(lanes, &v, sizeof v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

/* exp of x <= 0, to 1e-7. Below -87 it is exp(-87), 1e-38. */
INLINE vec VARIANT(exp_of_negative)(vec x) {
    const ivec low = x < -87.0f;
    x = (vec)(((ivec)(x * 0.0f - 87.0f) & low) | ((ivec)x & ~low));
    const ivec exponent = __builtin_convertvector(x * 1.44269504088896341f - 0.5f, ivec); /* nearest: x is not positive */
    const vec whole = __builtin_convertvector(exponent, vec);
    const vec rest = (x - whole * 0.693145751953125f) - whole * 1.42860682030941723212e-6f;
    vec p = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * (rest * rest) + (rest + 1.0f);
    return p * (vec)((exponent + 127) << 23);
}

INLINE int64_t VARIANT(token)(const Scan *s, int64_t sequence, int64_t i) {
    return s->reverse ? s->cu_seqlens[sequence + 1] - 1 - i : s->cu_seqlens[sequence] + i;
}

INLINE void VARIANT(forward_channels)(const Scan *s, int64_t e0, int64_t width, vec *h, float *y, float *final, float *kept) {
    const int64_t E = s->channels, N = s->states;
    const vec D = s->D ? VARIANT(load)(s->D + e0, width) : (vec){0};
    for (int64_t q = 0; q < s->sequences; q++) {
        const int64_t length = s->cu_seqlens[q + 1] - s->cu_seqlens[q];
        for (int64_t n = 0; n < N; n++) h[n] = s->initial ? VARIANT(load)(s->initial + (q * N + n) * E + e0, width) : (vec){0};
        for (int64_t i = 0; i < length; i++) {
            if (kept && i % SEGMENT == 0)
                for (int64_t n = 0; n < N; n++)
                    VARIANT(store)(kept + ((s->checkpoint[q] + i / SEGMENT) * N + n) * E + e0, h[n], width);
            const int64_t t = VARIANT(token)(s, q, i);
            const float *B = s->B + t * s->B_row, *C = s->C + t * s->C_row;
            const vec u = VARIANT(load)(s->u + t * s->u_row + e0, width), dt = VARIANT(load)(s->dt + t * s->dt_row + e0, width);
            const vec input = dt * u;
            vec out = D * u;
            for (int64_t n = 0; n < N; n++) {
                h[n] = VARIANT(exp_of_negative)(dt * VARIANT(load)(s->A + n * E + e0, width)) * h[n] + input * B[n];
                out += h[n] * C[n];
            }
            VARIANT(store)(y + t * E + e0, out, width);
        }
        if (final)
            for (int64_t n = 0; n < N; n++) VARIANT(store)(final + (q * N + n) * E + e0, h[n], width);
    }
}

/* One segment of one sequence. dh (N) goes from the state after the segment to the state before it; dB and dC
 * (SEGMENT, N) gather what this block of channels adds, lane by lane; states and decays are room to work in. */
INLINE void VARIANT(backward_segment)(const Scan *s, const Gradients *g, int64_t q, int64_t segment, int64_t steps, int64_t e0,
                             int64_t width, vec *dh, vec *dB, vec *dC, vec *states, vec *decays) {
    const int64_t E = s->channels, N = s->states;
    for (int64_t n = 0; n < N; n++) states[n] = VARIANT(load)(g->kept + ((s->checkpoint[q] + segment) * N + n) * E + e0, width);
    for (int64_t i = 0; i < steps; i++) {
        const int64_t t = VARIANT(token)(s, q, segment * SEGMENT + i);
        const float *B = s->B + t * s->B_row;
        const vec u = VARIANT(load)(s->u + t * s->u_row + e0, width), dt = VARIANT(load)(s->dt + t * s->dt_row + e0, width);
        const vec input = dt * u;
        const vec *before = states + i * N;
        vec *after = states + (i + 1) * N, *decay = decays + i * N;
        for (int64_t n = 0; n < N; n++) {
            decay[n] = VARIANT(exp_of_negative)(dt * VARIANT(load)(s->A + n * E + e0, width));
            after[n] = decay[n] * before[n] + input * B[n];
        }
    }
    const vec D = s->D ? VARIANT(load)(s->D + e0, width) : (vec){0};
    vec dD = g->dD ? VARIANT(load)(g->dD + e0, width) : (vec){0};
    for (int64_t i = steps - 1; i >= 0; i--) {
        const int64_t t = VARIANT(token)(s, q, segment * SEGMENT + i);
        const float *B = s->B + t * s->B_row, *C = s->C + t * s->C_row;
        const vec u = VARIANT(load)(s->u + t * s->u_row + e0, width), dt = VARIANT(load)(s->dt + t * s->dt_row + e0, width);
        const vec dy = VARIANT(load)(g->dy + t * E + e0, width), input = dt * u;
        const vec *before = states + i * N, *after = before + N, *decay = decays + i * N;
        vec d_input = {0}, d_dt = {0};
        for (int64_t n = 0; n < N; n++) {
            const vec d = dh[n] + dy * C[n];
            const vec left = d * decay[n], d_log_decay = left * before[n];
            float *dA = g->dA + n * E + e0;
            d_input += d * B[n];
            d_dt += d_log_decay * VARIANT(load)(s->A + n * E + e0, width);
            VARIANT(store)(dA, VARIANT(load)(dA, width) + d_log_decay * dt, width);
            dB[i * N + n] += d * input;
            dC[i * N + n] += after[n] * dy;
            dh[n] = left;
        }
        VARIANT(store)(g->du + t * E + e0, d_input * dt + D * dy, width);
        VARIANT(store)(g->d_dt + t * E + e0, d_dt + d_input * u, width);
        dD += dy * u;
    }
    if (g->dD) VARIANT(store)(g->dD + e0, dD, width);
}

static void VARIANT(forward_all)(const Scan *s, int64_t first, int64_t last, vec *h, float *y, float *final, float *kept) {
    int64_t e0 = first;
    for (; e0 + LANES <= last; e0 += LANES) VARIANT(forward_channels)(s, e0, LANES, h, y, final, kept);
    if (e0 < last) VARIANT(forward_channels)(s, e0, last - e0, h, y, final, kept);
}

static void VARIANT(backward_all)(const Scan *s, const Gradients *g, int64_t first, int64_t last, vec *work) {
    const int64_t E = s->channels, N = s->states, blocks = (last - first + LANES - 1) / LANES;
    vec *states = work, *decays = states + (SEGMENT + 1) * N, *dB = decays + SEGMENT * N, *dC = dB + SEGMENT * N;
    vec *dh = dC + SEGMENT * N; /* (blocks, N) */
    for (int64_t q = 0; q < s->sequences; q++) {
        const int64_t length = s->cu_seqlens[q + 1] - s->cu_seqlens[q];
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t e0 = first + b * LANES, width = last - e0 < LANES ? last - e0 : LANES;
            for (int64_t n = 0; n < N; n++)
                dh[b * N + n] = g->d_final ? VARIANT(load)(g->d_final + (q * N + n) * E + e0, width) : (vec){0};
        }
        for (int64_t segment = (length + SEGMENT - 1) / SEGMENT - 1; segment >= 0; segment--) {
            const int64_t rest = length - segment * SEGMENT, steps = rest < SEGMENT ? rest : SEGMENT;
            memset(dB, 0, steps * N * sizeof(vec));
            memset(dC, 0, steps * N * sizeof(vec));
            for (int64_t b = 0; b < blocks; b++) {
                const int64_t e0 = first + b * LANES;
                if (last - e0 >= LANES)
                    VARIANT(backward_segment)(s, g, q, segment, steps, e0, LANES, dh + b * N, dB, dC, states, decays);
                else
                    VARIANT(backward_segment)(s, g, q, segment, steps, e0, last - e0, dh + b * N, dB, dC, states, decays);
            }
            for (int64_t i = 0; i < steps; i++) {
                const int64_t t = VARIANT(token)(s, q, segment * SEGMENT + i);
                for (int64_t n = 0; n < N; n++) {
                    g->dB[t * N + n] += VARIANT(sum_of)(dB[i * N + n]);
                    g->dC[t * N + n] += VARIANT(sum_of)(dC[i * N + n]);
                }
            }
        }
        for (int64_t b = 0; g->d_initial && b < blocks; b++) {
            const int64_t e0 = first + b * LANES, width = last - e0 < LANES ? last - e0 : LANES;
            for (int64_t n = 0; n < N; n++) VARIANT(store)(g->d_initial + (q * N + n) * E + e0, dh[b * N + n], width);
        }
    }
}
