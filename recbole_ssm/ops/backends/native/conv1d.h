/* Depthwise convolution of a few taps over a packed stream, with SiLU. The backward pass computes what goes into SiLU
 * again. W vectors of channels from e0 on are worked on together, as in scan.h; a window of as many rows as there are taps
 * moves over a sequence, with zeros beyond its ends. */

#define FOR_TAPS(k, from, to) _Pragma("GCC unroll 8") for (int k = from; k < (to); k++)

/* 1 / (1 + exp(-x)) */
INLINE vec VARIANT(sigmoid)(vec x) {
    const ivec sign = (ivec)x & INT32_MIN;
    const vec e = VARIANT(exp)((vec)((ivec)x | INT32_MIN)); /* of -|x| */
    const ivec negative = sign >> 31;
    const vec top = (vec)(((ivec)e & negative) | ((ivec)((vec){0} + 1.0f) & ~negative));
    return top / (e + 1.0f);
}

/* Moves the window of rows one token on, to that of token t. */
INLINE void VARIANT(move)(const Convolution *c, int W, int taps, int64_t t, int64_t start, int64_t end, int64_t e0, int64_t width,
                          vec (*window)[MOST_VECTORS]) {
    const int64_t row = t + c->ahead;
    FOR_TAPS(k, 1, taps)
        FOR_VECTORS(w, W) window[k - 1][w] = window[k][w];
    FOR_VECTORS(w, W)
        window[taps - 1][w] = row >= start && row < end ? VARIANT(load)(c->x + row * c->x_row + e0 + w * LANES, width) : (vec){0};
}

/* The window of the token before the first one. */
INLINE void VARIANT(begin)(const Convolution *c, int W, int taps, int64_t start, int64_t end, int64_t e0, int64_t width,
                           vec (*window)[MOST_VECTORS]) {
    FOR_TAPS(k, 0, taps)
        FOR_VECTORS(w, W) window[k][w] = (vec){0};
    for (int64_t t = start - c->ahead; t < start; t++) VARIANT(move)(c, W, taps, t, start, end, e0, width, window);
}

INLINE void VARIANT(conv1d_channels)(const Convolution *c, int W, int taps, int64_t q, int64_t e0, int64_t width, float *y) {
    const int64_t start = c->cu_seqlens[q], end = c->cu_seqlens[q + 1];
    vec weight[MOST_TAPS][MOST_VECTORS], window[MOST_TAPS][MOST_VECTORS], bias[MOST_VECTORS];
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        bias[w] = c->bias ? VARIANT(load)(c->bias + e, width) : (vec){0};
        FOR_TAPS(k, 0, taps) weight[k][w] = VARIANT(load)(c->weight + k * c->channels + e, width);
    }
    VARIANT(begin)(c, W, taps, start, end, e0, width, window);
    for (int64_t t = start; t < end; t++) {
        VARIANT(move)(c, W, taps, t, start, end, e0, width, window);
        FOR_VECTORS(w, W) {
            vec sum = bias[w];
            FOR_TAPS(k, 0, taps) sum += weight[k][w] * window[k][w];
            if (c->silu) sum *= VARIANT(sigmoid)(sum);
            VARIANT(store)(y + t * c->channels + e0 + w * LANES, sum, width);
        }
    }
}

INLINE void VARIANT(conv1d_backward_channels)(const Convolution *c, int W, int taps, int64_t q, int64_t e0, int64_t width,
                                              const float *dy, float *dx, float *d_weight, float *d_bias) {
    const int64_t start = c->cu_seqlens[q], end = c->cu_seqlens[q + 1];
    vec weight[MOST_TAPS][MOST_VECTORS], window[MOST_TAPS][MOST_VECTORS], bias[MOST_VECTORS];
    vec d_w[MOST_TAPS][MOST_VECTORS], d_window[MOST_TAPS][MOST_VECTORS], d_b[MOST_VECTORS];
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        bias[w] = c->bias ? VARIANT(load)(c->bias + e, width) : (vec){0};
        d_b[w] = (vec){0};
        FOR_TAPS(k, 0, taps) {
            weight[k][w] = VARIANT(load)(c->weight + k * c->channels + e, width);
            d_w[k][w] = d_window[k][w] = (vec){0};
        }
    }
    VARIANT(begin)(c, W, taps, start, end, e0, width, window);
    for (int64_t t = start; t < end + taps - 1; t++) {
        const int64_t done = t - taps + 1 + c->ahead; /* the row that no later token meets */
        if (t < end) {
            VARIANT(move)(c, W, taps, t, start, end, e0, width, window);
            FOR_VECTORS(w, W) {
                vec d = VARIANT(load)(dy + t * c->dy_row + e0 + w * LANES, width);
                if (c->silu) {
                    vec sum = bias[w];
                    FOR_TAPS(k, 0, taps) sum += weight[k][w] * window[k][w];
                    const vec sigmoid = VARIANT(sigmoid)(sum);
                    d *= sigmoid * (1.0f + sum * (1.0f - sigmoid));
                }
                d_b[w] += d;
                FOR_TAPS(k, 0, taps) {
                    d_w[k][w] += d * window[k][w];
                    d_window[k][w] += d * weight[k][w];
                }
            }
        }
        FOR_VECTORS(w, W) {
            if (done >= start && done < end) VARIANT(store)(dx + done * c->channels + e0 + w * LANES, d_window[0][w], width);
            FOR_TAPS(k, 1, taps) d_window[k - 1][w] = d_window[k][w];
            d_window[taps - 1][w] = (vec){0};
        }
    }
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        if (d_bias) VARIANT(store)(d_bias + e, VARIANT(load)(d_bias + e, width) + d_b[w], width);
        FOR_TAPS(k, 0, taps) {
            float *into = d_weight + k * c->channels + e;
            VARIANT(store)(into, VARIANT(load)(into, width) + d_w[k][w], width);
        }
    }
}

/* ---- a share of the channels, sequence by sequence; the usual numbers of taps unrolled ---- */

#define CHANNELS(n)                                                                                                    \
    do {                                                                                                               \
        const int taps = n;                                                                                            \
        FOR_CHANNELS(first, last, CONVOLVE);                                                                           \
    } while (0)
#define FOR_CONVOLUTIONS                                                                                               \
    for (int64_t q = 0; q < c->sequences; q++) {                                                                       \
        if (c->taps == 4)                                                                                              \
            CHANNELS(4);                                                                                               \
        else if (c->taps == 7)                                                                                         \
            CHANNELS(7);                                                                                               \
        else                                                                                                           \
            CHANNELS(c->taps);                                                                                         \
    }

static void VARIANT(conv1d)(const Convolution *c, int64_t first, int64_t last, float *y) {
#define CONVOLVE(W, width) VARIANT(conv1d_channels)(c, W, taps, q, e0, width, y)
    FOR_CONVOLUTIONS
#undef CONVOLVE
}

static void VARIANT(conv1d_backward)(const Convolution *c, int64_t first, int64_t last, const float *dy, float *dx, float *d_weight,
                                     float *d_bias) {
#define CONVOLVE(W, width) VARIANT(conv1d_backward_channels)(c, W, taps, q, e0, width, dy, dx, d_weight, d_bias)
    FOR_CONVOLUTIONS
#undef CONVOLVE
}
#undef FOR_CONVOLUTIONS
#undef CHANNELS
#undef FOR_TAPS
