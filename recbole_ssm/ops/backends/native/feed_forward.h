/* LayerNorm(x + dropout(W2 dropout(gelu(W1 x + b1)) + b2)), or with the second dropout after the norm, for so many rows
 * together that what is between the products stays in a cache. Only what goes into GELU and what comes out of the norm, before
 * its weight and bias, is kept for the backward pass. Widths are multiples of CACHE_LINE. */

/* The normal distribution's function at x, to 1e-7 (Abramowitz and Stegun 7.1.26); `density` is exp(-x x / 2). */
INLINE vec VARIANT(normal)(vec x, vec *density) {
    const ivec negative = x < 0.0f;
    const vec z = (vec)((ivec)x & INT32_MAX) * 0.70710678118654752f, t = 1.0f / (1.0f + 0.3275911f * z);
    vec p = t * 1.061405429f - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    *density = VARIANT(exp)(-z * z);
    const vec tail = p * t * *density * 0.5f, rest = 1.0f - tail;
    return (vec)(((ivec)tail & negative) | ((ivec)rest & ~negative));
}

/* What dropout makes of x at this place, with one of the two seeds. */
INLINE vec VARIANT(drop)(const FeedForward *s, int which, int64_t place, vec x) {
    return s->least ? (vec)((ivec)(x * s->scale) & VARIANT(kept)(place, s->seeds[which], s->least)) : x;
}

/* out (rows, outputs) = A (rows, inner) W (outputs, inner)^T; WT is W turned, or NULL, which is better for few rows. */
INLINE void VARIANT(product)(int64_t rows, int64_t outputs, int64_t inner, const float *A, const float *W, const float *WT,
                             float *out) {
    if (WT)
        VARIANT(multiply_large)(rows, outputs, inner, A, inner, 1, WT, outputs, out, outputs, 0);
    else
        VARIANT(linear)(rows, outputs, inner, A, inner, W, NULL, out, outputs);
}

/* The rows from first to last: y (rows, width); kept (rows, inner), normed (rows, width) and factor (rows), the inverse
 * deviations, may be NULL together. `work` has room for ROWS_OF_TILE rows of inner. */
static void VARIANT(feed_forward)(const FeedForward *s, int64_t first, int64_t last, float *work, float *y, float *kept,
                                  float *normed, float *factor) {
    const int64_t D = s->width, E = s->inner;
    for (int64_t start = first; start < last; start += ROWS_OF_TILE) {
        const int64_t n = SMALLER(ROWS_OF_TILE, last - start);
        VARIANT(product)(n, E, D, s->x + start * D, s->W1, s->W1T, work);
        for (int64_t r = 0; r < n; r++)
            for (int64_t e = 0; e < E; e += LANES) {
                const vec x = VARIANT(load)(work + r * E + e, LANES) + VARIANT(load)(s->b1 + e, LANES);
                vec density;
                if (kept) VARIANT(store)(kept + (start + r) * E + e, x, LANES);
                VARIANT(store)(work + r * E + e, VARIANT(drop)(s, 0, (start + r) * E + e, x * VARIANT(normal)(x, &density)), LANES);
            }
        VARIANT(product)(n, D, E, work, s->W2, s->W2T, y + start * D);
        for (int64_t t = start; t < start + n; t++) {
            vec sum = {0}, squares = {0};
            for (int64_t e = 0; e < D; e += LANES) {
                vec v = VARIANT(load)(y + t * D + e, LANES) + VARIANT(load)(s->b2 + e, LANES);
                if (!s->dropout_after_norm) v = VARIANT(drop)(s, 1, t * D + e, v);
                VARIANT(store)(y + t * D + e, v += VARIANT(load)(s->x + t * D + e, LANES), LANES);
                sum += v;
            }
            const float mean = VARIANT(sum_of)(sum) / D;
            for (int64_t e = 0; e < D; e += LANES) {
                const vec v = VARIANT(load)(y + t * D + e, LANES) - mean;
                squares += v * v;
            }
            const float inverse = 1.0f / sqrtf(VARIANT(sum_of)(squares) / D + s->eps);
            for (int64_t e = 0; e < D; e += LANES) {
                const vec v = (VARIANT(load)(y + t * D + e, LANES) - mean) * inverse;
                vec out = v * VARIANT(load)(s->weight + e, LANES) + VARIANT(load)(s->bias + e, LANES);
                if (s->dropout_after_norm) out = VARIANT(drop)(s, 1, t * D + e, out);
                if (normed) VARIANT(store)(normed + t * D + e, v, LANES);
                VARIANT(store)(y + t * D + e, out, LANES);
            }
            if (factor) factor[t] = inverse;
        }
    }
}

/* Adds the rows of a tile (rows, columns) to sums (columns). */
INLINE void VARIANT(add_rows)(int64_t rows, int64_t columns, const float *tile, float *sums) {
    for (int64_t e = 0; e < columns; e += LANES) {
        vec sum = VARIANT(load)(sums + e, LANES);
        for (int64_t r = 0; r < rows; r++) sum += VARIANT(load)(tile + r * columns + e, LANES);
        VARIANT(store)(sums + e, sum, LANES);
    }
}

/* dx (rows, width) is overwritten, the other gradients are of this thread and added to. `work` has room for ROWS_OF_TILE
 * rows of two times inner and of width. */
static void VARIANT(feed_forward_backward)(const FeedForward *s, int64_t first, int64_t last, float *work, const float *dy,
                                           const float *kept, const float *normed, const float *factor,
                                           const FeedForwardGradients *g) {
    const int64_t D = s->width, E = s->inner;
    float *const active = work, *const d_kept = active + ROWS_OF_TILE * E, *const d_out = d_kept + ROWS_OF_TILE * E;
    for (int64_t start = first; start < last; start += ROWS_OF_TILE) {
        const int64_t n = SMALLER(ROWS_OF_TILE, last - start);
        for (int64_t r = 0; r < n; r++) {
            const int64_t t = start + r;
            vec sum = {0}, product = {0};
            for (int64_t e = 0; e < D; e += LANES) {
                const vec v = VARIANT(load)(normed + t * D + e, LANES);
                vec d = VARIANT(load)(dy + t * D + e, LANES);
                if (s->dropout_after_norm) d = VARIANT(drop)(s, 1, t * D + e, d);
                VARIANT(store)(g->weight + e, VARIANT(load)(g->weight + e, LANES) + d * v, LANES);
                VARIANT(store)(g->bias + e, VARIANT(load)(g->bias + e, LANES) + d, LANES);
                d *= VARIANT(load)(s->weight + e, LANES);
                VARIANT(store)(d_out + r * D + e, d, LANES);
                sum += d;
                product += d * v;
            }
            const float mean = VARIANT(sum_of)(sum) / D, pull = VARIANT(sum_of)(product) / D;
            for (int64_t e = 0; e < D; e += LANES) {
                const vec v = VARIANT(load)(normed + t * D + e, LANES);
                const vec d = (VARIANT(load)(d_out + r * D + e, LANES) - mean - v * pull) * factor[t];
                VARIANT(store)(g->x + t * D + e, d, LANES);
                VARIANT(store)(d_out + r * D + e, s->dropout_after_norm ? d : VARIANT(drop)(s, 1, t * D + e, d), LANES);
            }
        }
        VARIANT(multiply_large)(n, E, D, d_out, D, 1, s->W2, E, d_kept, E, 0);
        for (int64_t r = 0; r < n; r++)
            for (int64_t e = 0; e < E; e += LANES) {
                const int64_t place = (start + r) * E + e;
                const vec x = VARIANT(load)(kept + place, LANES);
                vec density;
                const vec below = VARIANT(normal)(x, &density), slope = below + x * density * 0.39894228040143268f;
                VARIANT(store)(active + r * E + e, VARIANT(drop)(s, 0, place, x * below), LANES);
                VARIANT(store)(d_kept + r * E + e, VARIANT(drop)(s, 0, place, VARIANT(load)(d_kept + r * E + e, LANES) * slope), LANES);
            }
        VARIANT(add_rows)(n, D, d_out, g->b2);
        VARIANT(add_rows)(n, E, d_kept, g->b1);
        VARIANT(multiply_large)(D, E, n, d_out, 1, D, active, E, g->W2, E, 1);
        VARIANT(multiply_large)(E, D, n, d_kept, 1, E, s->x + start * D, D, g->W1, D, 1);
        VARIANT(multiply_large)(n, D, E, d_kept, E, 1, s->W1, D, g->x + start * D, D, 1);
    }
}
