/* RMSNorm with a gate: weight RMSNorm(y silu(z)), or weight RMSNorm(y) silu(z) where the norm comes before the gate. With a
 * what is normed and r one over its root mean square, the output is weight a r [silu(z)]. The backward pass computes all
 * of it again. */

/* Fills a (width) and open (width), the sigmoid of z, for a row; returns r. */
INLINE float VARIANT(normed)(const GatedNorm *s, const float *y, const float *z, float *a, float *open) {
    vec squares = {0};
    FOR_COLUMNS(e, width, s->width) {
        const vec gate = VARIANT(load)(z + e, width), sigmoid = VARIANT(sigmoid)(gate);
        const vec value = s->norm_before_gate ? VARIANT(load)(y + e, width) : VARIANT(load)(y + e, width) * gate * sigmoid;
        VARIANT(store)(a + e, value, LANES);
        VARIANT(store)(open + e, sigmoid, LANES);
        squares += value * value;
    }
    return 1.0f / sqrtf(VARIANT(sum_of)(squares) / s->width + s->eps);
}

/* The rows from first to last. `work` has room for two rows, filled up to whole vectors, as in the backward pass. */
static void VARIANT(gated_norm)(const GatedNorm *s, int64_t first, int64_t last, float *work, float *out) {
    float *const a = work, *const open = work + PADDED(s->width);
    for (int64_t t = first; t < last; t++) {
        const float *const z = s->z + t * s->z_row, r = VARIANT(normed)(s, s->y + t * s->y_row, z, a, open);
        FOR_COLUMNS(e, width, s->width) {
            vec value = VARIANT(load)(a + e, LANES) * VARIANT(load)(s->weight + e, width) * r;
            if (s->norm_before_gate) value *= VARIANT(load)(z + e, width) * VARIANT(load)(open + e, LANES);
            VARIANT(store)(out + t * s->width + e, value, width);
        }
    }
}

static void VARIANT(gated_norm_backward)(const GatedNorm *s, int64_t first, int64_t last, float *work, const float *d_out,
                                         float *dy, float *dz, float *d_weight) {
    float *const a = work, *const open = work + PADDED(s->width);
    for (int64_t t = first; t < last; t++) {
        const float *const y = s->y + t * s->y_row, *const z = s->z + t * s->z_row, *const d = d_out + t * s->width;
        const float r = VARIANT(normed)(s, y, z, a, open);
        vec product = {0};
        FOR_COLUMNS(e, width, s->width) {
            vec through = VARIANT(load)(d + e, width) * VARIANT(load)(a + e, LANES);
            if (s->norm_before_gate) through *= VARIANT(load)(z + e, width) * VARIANT(load)(open + e, LANES);
            VARIANT(store)(d_weight + e, VARIANT(load)(d_weight + e, width) + through * r, width);
            product += through * VARIANT(load)(s->weight + e, width);
        }
        const float pull = VARIANT(sum_of)(product) / s->width * r * r * r;
        FOR_COLUMNS(e, width, s->width) {
            const vec gate = VARIANT(load)(z + e, width), sigmoid = VARIANT(load)(open + e, LANES);
            const vec gated = gate * sigmoid, slope = sigmoid * (1.0f + gate * (1.0f - sigmoid));
            const vec at = VARIANT(load)(a + e, LANES), upstream = VARIANT(load)(d + e, width) * VARIANT(load)(s->weight + e, width);
            vec d_y, d_gated;
            if (s->norm_before_gate) {
                d_y = upstream * gated * r - at * pull;
                d_gated = upstream * at * r;
            } else {
                const vec d_a = upstream * r - at * pull;
                d_y = d_a * gated;
                d_gated = d_a * VARIANT(load)(y + e, width);
            }
            VARIANT(store)(dy + t * s->width + e, d_y, width);
            VARIANT(store)(dz + t * s->width + e, d_gated * slope, width);
        }
    }
}
