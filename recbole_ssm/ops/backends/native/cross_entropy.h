/* Softmax cross-entropy of logits W hidden (+ bias), a block of rows at a time, with its gradients.
 *
 * Of a block's logits l only u = exp(l - max l) is kept, in a buffer that caches hold if there are some thousand items.
 * With z the sum of u's row, the loss of a row is log z + max l - l[target] and its gradient with respect to l is
 * u / z - onehot(target). u itself is never divided: what multiplies it is narrower.
 *
 * With a teacher, whose softmax p takes a share of the targets, the loss has (1 - share) l[target] + share p.l in place of
 * l[target], and the gradient is u / z - share p - (1 - share) onehot(target): z share p is taken from u.
 *
 * Rows are filled up to whole vectors. The logits' columns go by panels of PANEL, for which W is copied transposed. */

/* panels (panel, width, PANEL) = W (items, width) transposed. */
static void VARIANT(cross_entropy_panels)(int64_t items, int64_t width, const float *W, float *panels) {
    const float none[LANES] = {0};
    for (int64_t v = 0; v < panels_of(items) * PANEL; v += LANES)
        for (int64_t k = 0; k < width; k += LANES) {
            float square[LANES * LANES];
            for (int64_t r = 0; r < LANES; r++)
                memcpy(square + r * LANES, v + r < items ? W + (v + r) * width + k : none, sizeof none);
            VARIANT(transpose)(LANES, LANES, square, LANES, panels + (v / PANEL * width + k) * PANEL + v % PANEL, PANEL);
        }
}

/* l (rows, row of items) = the products of rows (rows, width) with all items. */
INLINE void VARIANT(logits)(int64_t rows, int64_t items, int64_t width, const float *hidden, const float *panels, float *l) {
    const int64_t row = row_of(items);
    for (int64_t p = 0; p < panels_of(items); p++)
        for (int64_t k = 0; k < width; k += MOST_INNER)
            VARIANT(multiply)(rows, PANEL, SMALLER(width - k, MOST_INNER), hidden + k, width, 1, panels + (p * width + k) * PANEL,
                              PANEL, l + p * PANEL, row, k > 0, WHOLE);
}

/* u = exp(l + bias - max) in place, of one row; what lies behind its end becomes 0. bias may be NULL. */
INLINE void VARIANT(softmax_row)(int64_t items, const float *bias, float *l, float *largest, float *z) {
    vec most = (vec){0} - INFINITY, sum = {0};
    FOR_COLUMNS(v, width, items) {
        vec at = VARIANT(load)(l + v, LANES);
        if (bias) VARIANT(store)(l + v, at += VARIANT(load)(bias + v, width), LANES);
        if (width < LANES)
            for (int64_t i = width; i < LANES; i++) at[i] = -INFINITY;
        const ivec more = at > most;
        most = (vec)(((ivec)at & more) | ((ivec)most & ~more));
    }
    *largest = most[0];
    for (int i = 1; i < LANES; i++)
        if (most[i] > *largest) *largest = most[i];
    FOR_COLUMNS(v, width, items) {
        vec at = VARIANT(exp)(VARIANT(load)(l + v, LANES) - *largest);
        if (width < LANES)
            for (int64_t i = width; i < LANES; i++) at[i] = 0.0f;
        VARIANT(store)(l + v, at, LANES);
        sum += at;
    }
    *z = VARIANT(sum_of)(sum);
}

/* Adds to the logits l of row r. */
INLINE void VARIANT(add_to_logits)(int64_t n_added, const Added *added, int64_t r, float *l) {
    for (const Added *a = added; a < added + n_added; a++)
        for (int64_t at = r * a->groups; at < (r + 1) * a->groups; at++)
            for (int64_t i = a->start[at]; i < a->end[at]; i++)
                if (a->items[i] >= 0) l[a->items[i]] += a->weight[at] * (a->values ? a->values[i] : 1.0f);
}

/* The gradients of the weights of what is added to row r, by those of its logits: scale u - sure onehot(target). */
INLINE void VARIANT(added_gradients)(int64_t n_added, const Added *added, int64_t r, const float *u, float scale, float sure,
                                     int64_t target) {
    for (const Added *a = added; a < added + n_added; a++)
        for (int64_t at = r * a->groups; at < (r + 1) * a->groups; at++) {
            float sum = 0.0f;
            for (int64_t i = a->start[at]; i < a->end[at]; i++)
                if (a->items[i] >= 0)
                    sum += (a->values ? a->values[i] : 1.0f) * (u[a->items[i]] * scale - sure * (a->items[i] == target));
            a->gradient[at] = sum;
        }
}

/* The rows from first to last; returns their summed loss. Gradients of the sum, if wanted (g is not NULL), are added to. */
static double VARIANT(cross_entropy)(const CrossEntropy *s, const CrossEntropyGradients *g, int64_t first, int64_t last,
                                     const float *panels, const float *taught_panels, float *work) {
    const int64_t K = s->width, n_panels = panels_of(s->items), row = row_of(s->items), block = rows_together(s->items);
    float *const u = work, *const taught = u + block * row, *const scaled = taught + (s->taught_hidden ? block * row : 0);
    float *const scales = scaled + block * K;
    const float share = s->taught_hidden ? s->share : 0.0f, sure = 1.0f - share;
    double loss = 0.0;
    for (int64_t start = first; start < last; start += block) {
        const int64_t n = SMALLER(block, last - start);
        const float *const hidden = s->hidden + start * K;
        const int64_t *const target = s->target + start;
        VARIANT(logits)(n, s->items, K, hidden, panels, u);
        if (s->taught_hidden)
            VARIANT(logits)(n, s->items, s->taught_width, s->taught_hidden + start * s->taught_width, taught_panels, taught);
        for (int64_t r = 0; r < n; r++) {
            const int counts = target[r] >= 0;
            float *const l = u + r * row, *const p = taught + r * row, largest, z, taught_z = 1.0f, expected = 0.0f;
            VARIANT(add_to_logits)(s->n_added, s->added, start + r, l);
            const float logit = counts ? l[target[r]] + (s->bias ? s->bias[target[r]] : 0.0f) : 0.0f;
            if (s->taught_hidden) {
                VARIANT(add_to_logits)(s->n_taught_added, s->taught_added, start + r, p);
                VARIANT(softmax_row)(s->items, NULL, p, &largest, &taught_z);
                vec sum = {0};
                FOR_COLUMNS(v, width, s->items) {
                    const vec bias = s->bias ? VARIANT(load)(s->bias + v, width) : (vec){0};
                    sum += VARIANT(load)(p + v, LANES) * (VARIANT(load)(l + v, LANES) + bias);
                }
                expected = VARIANT(sum_of)(sum) / taught_z;
            }
            VARIANT(softmax_row)(s->items, s->bias, l, &largest, &z);
            if (counts) loss += logf(z) + (largest - sure * logit - share * expected);
            if (!g) continue;
            if (s->taught_hidden) {
                const float part = share * z / taught_z;
                for (int64_t v = 0; v < s->items; v += LANES)
                    VARIANT(store)(l + v, VARIANT(load)(l + v, LANES) - part * VARIANT(load)(p + v, LANES), LANES);
            }
            scales[r] = counts ? 1.0f / z : 0.0f;
            for (int64_t k = 0; k < K; k += LANES)
                VARIANT(store)(scaled + r * K + k, VARIANT(load)(hidden + r * K + k, LANES) * scales[r], LANES);
            VARIANT(added_gradients)(s->n_added, s->added, start + r, l, scales[r], sure, target[r]);
        }
        if (!g) continue;
        float *const d_hidden = g->hidden + start * K;
        for (int64_t p = 0; p < n_panels; p++) {
            const int64_t v = p * PANEL, items = SMALLER(s->items - v, PANEL);
            VARIANT(multiply_large)(n, K, items, u + v, row, 1, s->weight + v * K, K, d_hidden, K, p > 0);
            VARIANT(multiply_large)(items, K, n, u + v, 1, row, scaled, K, g->weight + v * K, K, 1);
        }
        for (int64_t r = 0; r < n; r++) {
            float *const d = d_hidden + r * K;
            const int64_t at = target[r] < 0 ? 0 : target[r];
            const float counts = target[r] < 0 ? 0.0f : sure;
            for (int64_t k = 0; k < K; k++) {
                d[k] = d[k] * scales[r] - counts * s->weight[at * K + k];
                g->weight[at * K + k] -= counts * hidden[r * K + k];
            }
            if (s->bias) g->bias[at] -= counts;
        }
        if (!s->bias) continue;
        FOR_COLUMNS(v, width, s->items) {
            vec sum = VARIANT(load)(g->bias + v, width);
            for (int64_t r = 0; r < n; r++) sum += VARIANT(load)(u + r * row + v, LANES) * scales[r];
            VARIANT(store)(g->bias + v, sum, width);
        }
    }
    return loss;
}
