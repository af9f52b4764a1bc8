/* Depthwise convolution of a few taps over a packed stream, with SiLU. The backward pass computes what goes into SiLU
 * again. W vectors of channels from e0 on are worked on together, as in scan.h. */

/* 1 / (1 + exp(-x)) */
INLINE vec VARIANT(sigmoid)(vec x) {
    const ivec sign = (ivec)x & INT32_MIN;
    const vec e = VARIANT(exp)((vec)((ivec)x | INT32_MIN)); /* of -|x| */
    const ivec negative = sign >> 31;
    const vec top = (vec)(((ivec)e & negative) | ((ivec)((vec){0} + 1.0f) & ~negative));
    return top / (e + 1.0f);
}

/* The taps of token t that lie within its sequence: from first to last, and the row of x that the first one meets. */
#define TAPS_OF(c, t, start, end)                                                                                      \
    const int64_t row = (t) - c->taps + 1 + c->ahead;                                                                  \
    const int64_t tap = row < (start) ? (start) - row : 0;                                                             \
    const int64_t taps = row + c->taps > (end) ? (end) - row : c->taps;

INLINE void VARIANT(conv1d_channels)(const Convolution *c, int W, int64_t e0, int64_t width, float *y) {
    vec weight[MOST_TAPS][MOST_VECTORS], bias[MOST_VECTORS];
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        bias[w] = c->bias ? VARIANT(load)(c->bias + e, width) : (vec){0};
        for (int64_t k = 0; k < c->taps; k++) weight[k][w] = VARIANT(load)(c->weight + k * c->channels + e, width);
    }
    for (int64_t q = 0; q < c->sequences; q++) {
        const int64_t start = c->cu_seqlens[q], end = c->cu_seqlens[q + 1];
        for (int64_t t = start; t < end; t++) {
            TAPS_OF(c, t, start, end)
            vec sum[MOST_VECTORS];
            FOR_VECTORS(w, W) sum[w] = bias[w];
            for (int64_t k = tap; k < taps; k++)
                FOR_VECTORS(w, W)
                    sum[w] += weight[k][w] * VARIANT(load)(c->x + (row + k) * c->x_row + e0 + w * LANES, width);
            FOR_VECTORS(w, W) {
                if (c->silu) sum[w] *= VARIANT(sigmoid)(sum[w]);
                VARIANT(store)(y + t * c->channels + e0 + w * LANES, sum[w], width);
            }
        }
    }
}

INLINE void VARIANT(conv1d_backward_channels)(const Convolution *c, int W, int64_t e0, int64_t width, const float *dy, float *dx,
                                              float *d_weight, float *d_bias) {
    vec weight[MOST_TAPS][MOST_VECTORS], d_w[MOST_TAPS][MOST_VECTORS], bias[MOST_VECTORS], d_b[MOST_VECTORS];
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        bias[w] = c->bias ? VARIANT(load)(c->bias + e, width) : (vec){0};
        d_b[w] = (vec){0};
        for (int64_t k = 0; k < c->taps; k++) {
            weight[k][w] = VARIANT(load)(c->weight + k * c->channels + e, width);
            d_w[k][w] = (vec){0};
        }
    }
    for (int64_t q = 0; q < c->sequences; q++) {
        const int64_t start = c->cu_seqlens[q], end = c->cu_seqlens[q + 1];
        for (int64_t t = start; t < end; t++) {
            TAPS_OF(c, t, start, end)
            vec sum[MOST_VECTORS], d[MOST_VECTORS];
            FOR_VECTORS(w, W) sum[w] = bias[w];
            for (int64_t k = tap; c->silu && k < taps; k++)
                FOR_VECTORS(w, W)
                    sum[w] += weight[k][w] * VARIANT(load)(c->x + (row + k) * c->x_row + e0 + w * LANES, width);
            FOR_VECTORS(w, W) {
                d[w] = VARIANT(load)(dy + t * c->dy_row + e0 + w * LANES, width);
                if (c->silu) {
                    const vec sigmoid = VARIANT(sigmoid)(sum[w]);
                    d[w] *= sigmoid * (1.0f + sum[w] * (1.0f - sigmoid));
                }
                d_b[w] += d[w];
            }
            for (int64_t k = tap; k < taps; k++)
                FOR_VECTORS(w, W) {
                    float *into = dx + (row + k) * c->channels + e0 + w * LANES;
                    d_w[k][w] += d[w] * VARIANT(load)(c->x + (row + k) * c->x_row + e0 + w * LANES, width);
                    VARIANT(store)(into, VARIANT(load)(into, width) + d[w] * weight[k][w], width);
                }
        }
    }
    FOR_VECTORS(w, W) {
        const int64_t e = e0 + w * LANES;
        if (d_bias) VARIANT(store)(d_bias + e, d_b[w], width);
        for (int64_t k = 0; k < c->taps; k++) VARIANT(store)(d_weight + k * c->channels + e, d_w[k][w], width);
    }
}

/* ---- a share of the channels ---- */
static void VARIANT(conv1d)(const Convolution *c, int64_t first, int64_t last, float *y) {
#define CONVOLVE(W, width) VARIANT(conv1d_channels)(c, W, e0, width, y)
    FOR_CHANNELS(first, last, CONVOLVE);
#undef CONVOLVE
}

static void VARIANT(conv1d_backward)(const Convolution *c, int64_t first, int64_t last, const float *dy, float *dx, float *d_weight,
                                     float *d_bias) {
#define CONVOLVE(W, width) VARIANT(conv1d_backward_channels)(c, W, e0, width, dy, dx, d_weight, d_bias)
    FOR_CHANNELS(first, last, CONVOLVE);
#undef CONVOLVE
}
#undef TAPS_OF
