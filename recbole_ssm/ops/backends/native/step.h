/* One token more for each of some sequences, through a whole mixer; what is between its products of matrices row by row. */

/* As torch has it. */
INLINE float VARIANT(softplus)(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

/* The convolution of a row x (channels) behind a window (channels, taps - 1), with SiLU: into y and the next window. */
INLINE void VARIANT(convolve)(int64_t channels, int64_t taps, const float *window, const float *x, const float *weight,
                              const float *bias, float *y, float *next) {
    const int64_t before = taps - 1;
    for (int64_t c = 0; c < channels; c++) {
        float sum = bias[c] + weight[c * taps + before] * x[c];
        for (int64_t k = 0; k < before; k++) {
            sum += weight[c * taps + k] * window[c * before + k];
            next[c * before + k] = k + 1 < before ? window[c * before + k + 1] : x[c];
        }
        y[c] = sum;
    }
    FOR_COLUMNS(c, width, channels) {
        const vec sum = VARIANT(load)(y + c, width);
        VARIANT(store)(y + c, sum * VARIANT(sigmoid)(sum), width);
    }
}

/* Channels of a recurrence: next (channels, N) = decay state + x B, and y (channels) = next C. The decay of a channel is
 * decays[c / per_decay], or exp(dt[c] A[c]) for each of its states where A is given, -A of (channels, N). */
INLINE void VARIANT(recur)(int64_t channels, int64_t N, int64_t per_decay, const float *decays, const float *dt, const float *A,
                           const float *state, const float *x, const float *B, const float *C, float *next, float *y) {
    for (int64_t c = 0; c < channels; c += LANES) {
        const int64_t n_channels = SMALLER(channels - c, LANES);
        vec sums[LANES];
        for (int64_t i = 0; i < LANES; i++) sums[i] = (vec){0};
        for (int64_t i = 0; i < n_channels; i++)
            FOR_COLUMNS(n, width, N) {
                const int64_t place = (c + i) * N + n;
                const vec decay = A ? VARIANT(exp)(VARIANT(load)(A + place, width) * -dt[c + i])
                                    : (vec){0} + decays[(c + i) / per_decay];
                const vec h = decay * VARIANT(load)(state + place, width) + x[c + i] * VARIANT(load)(B + n, width);
                VARIANT(store)(next + place, h, width);
                sums[i] += h * VARIANT(load)(C + n, width);
            }
        VARIANT(store)(y + c, VARIANT(sums_of)(sums), n_channels);
    }
}

/* Floats that a thread works in, for so many rows. */
static int64_t VARIANT(mamba2_room)(const Mamba2Step *s, int64_t rows) {
    const int64_t E = s->heads * s->headdim, C = E + 2 * s->groups * s->states;
    return rows * (E + C + s->heads) + PADDED(C) + 2 * PADDED(E) + 2 * s->heads + rows * E;
}

/* The rows from first to last: out (rows, width), and the next window and state. */
static void VARIANT(mamba2_step)(const Mamba2Step *s, int64_t first, int64_t last, float *work, float *out, float *next_window,
                                 float *next_state) {
    const int64_t H = s->heads, P = s->headdim, N = s->states, G = s->groups, E = H * P, channels = E + 2 * G * N;
    const int64_t inner = E + channels + H, rows = last - first, of_window = channels * (s->taps - 1), of_group = E / G;
    float *const projected = work, *const mixed = projected + rows * inner, *const gated = mixed + PADDED(channels);
    float *const scaled = gated + rows * E, *const y = scaled + PADDED(E), *const dt = y + PADDED(E), *const decay = dt + H;
    VARIANT(linear)(rows, inner, s->width, s->hidden + first * s->hidden_row, s->hidden_row, s->in_proj, NULL, projected, inner);
    for (int64_t r = 0; r < rows; r++) {
        const float *const z = projected + r * inner, *const raw = z + E + channels, *const B = mixed + E, *const C = B + G * N;
        const int64_t t = first + r;
        VARIANT(convolve)(channels, s->taps, s->window + t * s->window_row, z + E, s->conv_weight, s->conv_bias, mixed,
                          next_window + t * of_window);
        for (int64_t h = 0; h < H; h++) {
            dt[h] = VARIANT(softplus)(raw[h] + s->dt_bias[h] + (s->more_dt ? s->more_dt[t * H + h] : 0.0f));
            decay[h] = expf(-expf(s->A_log[h]) * dt[h]);
            for (int64_t p = 0; p < P; p++) scaled[h * P + p] = dt[h] * mixed[h * P + p];
        }
        for (int64_t g = 0; g < G; g++) {
            const int64_t e = g * of_group;
            VARIANT(recur)(of_group, N, P, decay + g * H / G, NULL, NULL, s->state + t * s->state_row + e * N, scaled + e,
                           B + g * N, C + g * N, next_state + (t * E + e) * N, y + e);
        }
        for (int64_t h = 0; h < H; h++)
            for (int64_t p = 0; p < P; p++) y[h * P + p] += s->D[h] * mixed[h * P + p];
        vec squares = {0};
        FOR_COLUMNS(e, width, E) {
            const vec gate = VARIANT(load)(z + e, width);
            const vec value = VARIANT(load)(y + e, width) * gate * VARIANT(sigmoid)(gate);
            VARIANT(store)(y + e, value, width);
            squares += value * value;
        }
        const float factor = 1.0f / sqrtf(VARIANT(sum_of)(squares) / E + s->eps);
        FOR_COLUMNS(e, width, E) {
            const vec value = VARIANT(load)(y + e, width) * VARIANT(load)(s->norm + e, width) * factor;
            VARIANT(store)(gated + r * E + e, value, width);
        }
    }
    VARIANT(linear)(rows, s->width, E, gated, E, s->out_proj, NULL, out + first * s->width, s->width);
}

static int64_t VARIANT(mamba_room)(const MambaStep *s, int64_t rows) {
    const int64_t E = s->channels, selected = s->rank + 2 * s->states;
    return E * s->states + rows * 3 * E + 3 * PADDED(E) + PADDED(selected);
}

static void VARIANT(mamba_step)(const MambaStep *s, int64_t first, int64_t last, float *work, float *out, float *next_window,
                                float *next_state) {
    const int64_t E = s->channels, N = s->states, rows = last - first, of_window = E * (s->taps - 1);
    float *const A = work, *const projected = A + E * N, *const gated = projected + rows * 2 * E, *const x = gated + rows * E;
    float *const dt = x + PADDED(E), *const scaled = dt + PADDED(E), *const selected = scaled + PADDED(E);
    FOR_COLUMNS(i, width, E * N) VARIANT(store)(A + i, VARIANT(exp)(VARIANT(load)(s->A_log + i, width)), width);
    VARIANT(linear)(rows, 2 * E, s->width, s->hidden + first * s->hidden_row, s->hidden_row, s->in_proj, NULL, projected, 2 * E);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t t = first + r;
        float *const y = gated + r * E;
        const float *const z = projected + r * 2 * E + E, *const B = selected + s->rank, *const C = B + N;
        VARIANT(convolve)(E, s->taps, s->window + t * s->window_row, z - E, s->conv_weight, s->conv_bias, x,
                          next_window + t * of_window);
        VARIANT(linear)(1, s->rank + 2 * N, E, x, 0, s->x_proj, NULL, selected, 0);
        VARIANT(linear)(1, E, s->rank, selected, 0, s->dt_proj, s->dt_bias, dt, 0);
        for (int64_t e = 0; e < E; e++) {
            dt[e] = VARIANT(softplus)(dt[e] + (s->more_dt ? s->more_dt[t * E + e] : 0.0f));
            scaled[e] = dt[e] * x[e];
        }
        VARIANT(recur)(E, N, 1, NULL, dt, A, s->state + t * s->state_row, scaled, B, C, next_state + t * E * N, y);
        FOR_COLUMNS(e, width, E) {
            const vec gate = VARIANT(load)(z + e, width), skip = VARIANT(load)(s->D + e, width) * VARIANT(load)(x + e, width);
            VARIANT(store)(y + e, (VARIANT(load)(y + e, width) + skip) * gate * VARIANT(sigmoid)(gate), width);
        }
    }
    VARIANT(linear)(rows, s->width, E, gated, E, s->out_proj, NULL, out + first * s->width, s->width);
}

static int64_t VARIANT(lru_room)(const LruStep *s, int64_t rows) { return 2 * rows * s->size + 4 * PADDED(s->size); }

static void VARIANT(lru_step)(const LruStep *s, int64_t first, int64_t last, float *work, float *out, float *next_state) {
    const int64_t E = s->size, rows = last - first;
    float *const parts = work, *const rate = parts + 2 * rows * E, *const gamma = rate + PADDED(E);
    float *const cosine = gamma + PADDED(E), *const sine = cosine + PADDED(E);
    for (int64_t e = 0; e < E; e++) {
        const float angle = expf(s->theta_log[e]);
        rate[e] = expf(s->nu_log[e]), gamma[e] = expf(s->gamma_log[e]), cosine[e] = cosf(angle), sine[e] = sinf(angle);
    }
    VARIANT(linear)(rows, 2 * E, s->width, s->hidden + first * s->hidden_row, s->hidden_row, s->in_proj, s->in_bias, parts, 2 * E);
    for (int64_t r = 0; r < rows; r++) {
        const float *const before = s->state + (first + r) * s->state_row;
        float *const real = parts + r * 2 * E, *const imaginary = real + E, *const next = next_state + (first + r) * 2 * E;
        for (int64_t e = 0; e < E; e++) {
            const float magnitude = expf(-rate[e] * (s->elapsed ? s->elapsed[(first + r) * E + e] : 1.0f));
            const float a = magnitude * cosine[e], b = magnitude * sine[e];
            next[2 * e] = real[e] = real[e] * gamma[e] + a * before[2 * e] - b * before[2 * e + 1];
            next[2 * e + 1] = imaginary[e] = imaginary[e] * gamma[e] + a * before[2 * e + 1] + b * before[2 * e];
        }
    }
    VARIANT(linear)(rows, s->width, 2 * E, parts, 2 * E, s->out_proj, s->out_bias, out + first * s->width, s->width);
}

static int64_t VARIANT(mixed_room)(const MixedStep *s, int64_t rows) { return rows * s->width + ROWS_OF_TILE * s->inner; }

static void VARIANT(mixed_step)(const MixedStep *s, int64_t first, int64_t last, float *work, float *out) {
    const int64_t D = s->width, rows = last - first;
    float *const normed = work;
    for (int64_t r = 0; r < rows; r++) {
        const float *const mixed = s->mixed + (first + r) * s->mixed_row, *const hidden = s->hidden + (first + r) * s->hidden_row;
        float *const row = normed + r * D;
        vec sum = {0}, squares = {0};
        for (int64_t e = 0; e < D; e += LANES) {
            vec v = VARIANT(load)(mixed + e, LANES);
            if (s->hidden) v += VARIANT(load)(hidden + e, LANES);
            VARIANT(store)(row + e, v, LANES);
            sum += v;
        }
        const float mean = VARIANT(sum_of)(sum) / D;
        for (int64_t e = 0; e < D; e += LANES) {
            const vec v = VARIANT(load)(row + e, LANES) - mean;
            squares += v * v;
        }
        const float factor = 1.0f / sqrtf(VARIANT(sum_of)(squares) / D + s->eps);
        for (int64_t e = 0; e < D; e += LANES) {
            const vec v = (VARIANT(load)(row + e, LANES) - mean) * factor * VARIANT(load)(s->norm + e, LANES);
            VARIANT(store)(row + e, v + VARIANT(load)(s->norm_bias + e, LANES), LANES);
        }
    }
    const FeedForward network = {.rows = rows, .width = D, .inner = s->inner, .x = normed, .W1 = s->W1, .b1 = s->b1, .W2 = s->W2,
                                 .b2 = s->b2, .weight = s->weight, .bias = s->bias, .scale = 1.0f, .eps = s->eps_of_network};
    VARIANT(feed_forward)(&network, 0, rows, normed + rows * D, out + first * D, NULL, NULL, NULL);
}
