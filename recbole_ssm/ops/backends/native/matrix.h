/* Products of small matrices that lie in a cache, and what goes with them. Rows of what is read or written a vector at a
 * time are filled up to whole vectors. */

/* C (R, W vectors) = A (R, K) B (K, W vectors), or added to C: as much as the registers hold. */
INLINE void VARIANT(multiply_block)(int R, int W, int64_t K, const float *A, int64_t a_row, int64_t a_column, const float *B,
                                    int64_t b_row, float *C, int64_t c_row, int add) {
    vec sum[MOST_ROWS][MOST_VECTORS];
    FOR_ROWS(r, R)
        FOR_VECTORS(w, W) sum[r][w] = add ? VARIANT(load)(C + r * c_row + w * LANES, LANES) : (vec){0};
    for (int64_t k = 0; k < K; k++) {
        vec b[MOST_VECTORS];
        FOR_VECTORS(w, W) b[w] = VARIANT(load)(B + k * b_row + w * LANES, LANES);
        FOR_ROWS(r, R) {
            const float a = A[r * a_row + k * a_column];
            FOR_VECTORS(w, W) sum[r][w] += a * b[w];
        }
    }
    FOR_ROWS(r, R)
        FOR_VECTORS(w, W) VARIANT(store)(C + r * c_row + w * LANES, sum[r][w], LANES);
}

/* C (rows, columns) = A (rows, inner) B (inner, columns), or added to C. A is read element by element, at any strides.
 * Of a LOWER A nothing right of the diagonal is needed, of an UPPER one nothing left of it: it is zero there. */
static void VARIANT(multiply)(int64_t rows, int64_t columns, int64_t inner, const float *A, int64_t a_row, int64_t a_column,
                              const float *B, int64_t b_row, float *C, int64_t c_row, int add, Shape shape) {
#define BLOCK(R, W)                                                                                                    \
    do {                                                                                                               \
        const int64_t from = shape == UPPER ? i : 0, to = shape == LOWER ? SMALLER(i + R, inner) : inner;             \
        VARIANT(multiply_block)(R, W, to - from, A + i * a_row + from * a_column, a_row, a_column, B + from * b_row + j, b_row, \
                                C + i * c_row + j, c_row, add);                                                         \
    } while (0)
#define PANEL(W)                                                                                                       \
    for (; j + W * LANES <= columns; j += W * LANES) {                                                                 \
        int64_t i = 0;                                                                                                 \
        for (; i + MOST_ROWS <= rows; i += MOST_ROWS) BLOCK(MOST_ROWS, W);                                             \
        if (i + 4 <= rows) {                                                                                           \
            BLOCK(4, W);                                                                                               \
            i += 4;                                                                                                    \
        }                                                                                                              \
        if (i + 2 <= rows) {                                                                                           \
            BLOCK(2, W);                                                                                               \
            i += 2;                                                                                                    \
        }                                                                                                              \
        if (i < rows) BLOCK(1, W);                                                                                     \
    }
    int64_t j = 0;
    columns = PADDED(columns);
    if (TOGETHER >= 4) PANEL(4)
    if (TOGETHER >= 2) PANEL(2)
    PANEL(1)
#undef PANEL
#undef BLOCK
}

/* The same for matrices of any size: a large B by blocks that are copied together, since rows a power of two apart share
 * places in a cache. */
static void VARIANT(multiply_large)(int64_t rows, int64_t columns, int64_t inner, const float *A, int64_t a_row, int64_t a_column,
                                    const float *B, int64_t b_row, float *C, int64_t c_row, int add) {
    float block[MOST_INNER * PANEL];
    if (inner * b_row <= MOST_INNER * MOST_INNER * 2) {
        VARIANT(multiply)(rows, columns, inner, A, a_row, a_column, B, b_row, C, c_row, add, WHOLE);
        return;
    }
    for (int64_t k = 0; k < inner; k += MOST_INNER)
        for (int64_t j = 0; j < columns; j += PANEL) {
            const int64_t depth = SMALLER(inner - k, MOST_INNER), width = SMALLER(columns - j, PANEL);
            for (int64_t i = 0; i < depth; i++) memcpy(block + i * PANEL, B + (k + i) * b_row + j, width * sizeof(float));
            VARIANT(multiply)(rows, width, depth, A + k * a_column, a_row, a_column, block, PANEL, C + j, c_row, add || k, WHOLE);
        }
}

/* out (rows, outputs) = A (rows, inner) W (outputs, inner)^T + bias, which may be NULL; of any sizes, for few rows: to turn W
 * would take longer than the product. */
static void VARIANT(linear)(int64_t rows, int64_t outputs, int64_t inner, const float *A, int64_t a_row, const float *W,
                            const float *bias, float *out, int64_t out_row) {
    const int64_t whole = inner / LANES * LANES;
    for (int64_t o = 0; o < outputs; o += LANES) {
        const int64_t width = SMALLER(outputs - o, LANES);
        const float *of[LANES];
        for (int i = 0; i < LANES; i++) of[i] = W + (o + SMALLER(i, width - 1)) * inner;
        for (int64_t r = 0; r < rows; r++) {
            const float *a = A + r * a_row;
            vec sums[LANES];
            FOR_LANES(i) sums[i] = (vec){0};
            for (int64_t k = 0; k < whole; k += LANES) {
                const vec x = VARIANT(load)(a + k, LANES);
                FOR_LANES(i) sums[i] += x * VARIANT(load)(of[i] + k, LANES);
            }
            if (whole < inner) {
                const vec x = VARIANT(load)(a + whole, inner - whole);
                FOR_LANES(i) sums[i] += x * VARIANT(load)(of[i] + whole, inner - whole);
            }
            const vec found = VARIANT(sums_of)(sums);
            VARIANT(store)(out + r * out_row + o, bias ? found + VARIANT(load)(bias + o, width) : found, width);
        }
    }
}

INLINE vec VARIANT(zip_low)(vec a, vec b) {
#if LANES == 16
    return SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif LANES == 8
    return SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
    return SHUFFLE(a, b, 0, 4, 1, 5);
#endif
}

INLINE vec VARIANT(zip_high)(vec a, vec b) {
#if LANES == 16
    return SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif LANES == 8
    return SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return SHUFFLE(a, b, 2, 6, 3, 7);
#endif
}

/* to (columns, rows) = from (rows, columns) mirrored. Both have room up to whole vectors in each direction. */
static void VARIANT(transpose)(int64_t rows, int64_t columns, const float *from, int64_t from_row, float *to, int64_t to_row) {
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES) {
            vec a[LANES], b[LANES];
            for (int r = 0; r < LANES; r++) a[r] = VARIANT(load)(from + (i + r) * from_row + j, LANES);
            for (int round = 1; round < LANES; round *= 2) {
                for (int r = 0; r < LANES / 2; r++) {
                    b[2 * r] = VARIANT(zip_low)(a[r], a[r + LANES / 2]);
                    b[2 * r + 1] = VARIANT(zip_high)(a[r], a[r + LANES / 2]);
                }
                for (int r = 0; r < LANES; r++) a[r] = b[r];
            }
            for (int r = 0; r < LANES; r++) VARIANT(store)(to + (j + r) * to_row + i, a[r], LANES);
        }
}

/* One value for each head to one for each column of it. */
INLINE void VARIANT(spread)(const float *heads, int64_t n_heads, int64_t per_head, float *columns) {
    if (per_head % LANES == 0) {
        for (int64_t h = 0; h < n_heads; h++)
            for (int64_t p = 0; p < per_head; p += LANES)
                VARIANT(store)(columns + h * per_head + p, (vec){0} + heads[h], LANES);
        return;
    }
    for (int64_t h = 0; h < n_heads; h++)
        for (int64_t p = 0; p < per_head; p++) columns[h * per_head + p] = heads[h];
}

/* The reverse of spread: sums over each head's columns, which are overwritten. */
INLINE void VARIANT(sum_heads)(float *columns, int64_t n_heads, int64_t per_head, float *heads) {
    for (; per_head % 2 == 0; per_head /= 2)
        for (int64_t i = 0; i < n_heads * per_head; i += 2 * LANES)
            VARIANT(store)(columns + i / 2, VARIANT(pair_sums)(VARIANT(load)(columns + i, LANES),
                                                               VARIANT(load)(columns + i + LANES, LANES)), LANES);
    for (int64_t h = 0; h < n_heads; h++) {
        heads[h] = columns[h * per_head];
        for (int64_t p = 1; p < per_head; p++) heads[h] += columns[h * per_head + p];
    }
}
