/* Mamba-2's recurrence, where the states of a head share one decay, by products of matrices over chunks of a sequence:
 *
 *     h[t] = exp(dt[t] A) h[t-1] + dt[t] B[t] x[t]^T        y[t] = C[t] h[t] + D x[t]
 *
 * Let c be the sum of log decays after the chunk's first token, and m the middle of its range. Then the decay from token j
 * to token i is rise[i] fall[j] = exp(c_i - m) exp(m - c_j), and within a chunk
 *
 *     X = fall dt x        S = lower triangle of C B^T        y = rise (S X + C H) + D x        H' = H + B^T X
 *
 * where H is the state before the chunk, decayed to m, and H' the one after it, at m still. All heads share S.
 * The gradient of a log decay is what flows through it, from the tokens before to those from it on: counted from the
 * chunk's start, what inputs have given less what outputs have taken.
 *
 * A thread has all heads of some sequences, or, where sequences cannot be shared out evenly, some heads of all; then each thread
 * makes an S of its own. Matrices are filled up to whole vectors. */

#define Room VARIANT(Room)
typedef struct {
    int64_t head, n_heads, P, E, N, Q, heads;      /* first head, how many, their width; columns, states, steps and heads */
    float *dt, *rise, *fall;                       /* (steps, heads) */
    float *X, *y, *rises, *inputs;                 /* (steps, columns); rises is rise and inputs is fall dt of each column */
    float *B, *C, *BT;                             /* (steps, states), (states, steps) */
    float *S;                                      /* (steps, steps) */
    float *H;                                      /* (states, columns) */
    float *enter, *D, *row;                        /* (columns): factor from before the chunk to m; D; to work in */
    /* of the backward pass */
    float *given, *spent;                          /* (steps, heads) */
    float *dy, *dX, *mirror;                       /* (steps, columns), but mirror (columns, steps); dy is rise dy */
    float *CT, *gradient, *mirrored;               /* (states, steps), but mirrored (steps, states) */
    float *dS, *dST, *dH, *dD;                     /* (steps, steps), (states, columns), (columns) */
    double *through;                               /* (heads), the gradient of a log decay */
} Room;

/* Lays out a thread's room from `start` on, which may be NULL; returns how many floats it takes. */
static int64_t VARIANT(lay_out)(const Ssd *s, int64_t head, int64_t n_heads, int backward, float *start, Room *k) {
    int64_t taken = 0;
    k->head = head, k->n_heads = n_heads, k->P = s->headdim;
    k->E = PADDED(n_heads * s->headdim), k->N = PADDED(s->states), k->Q = PADDED(most_steps(s)), k->heads = PADDED(n_heads);
#define TAKE(name, size) k->name = start ? start + taken : NULL, taken += size
    TAKE(dt, k->Q * k->heads), TAKE(rise, k->Q * k->heads), TAKE(fall, k->Q * k->heads);
    TAKE(X, k->Q * k->E), TAKE(y, k->Q * k->E), TAKE(rises, k->Q * k->E), TAKE(inputs, k->Q * k->E);
    TAKE(B, k->Q * k->N), TAKE(C, k->Q * k->N), TAKE(BT, k->N * k->Q), TAKE(S, k->Q * k->Q), TAKE(H, k->N * k->E);
    TAKE(enter, k->E), TAKE(D, k->E), TAKE(row, k->E + 2 * LANES);
    if (backward) {
        TAKE(given, k->Q * k->heads), TAKE(spent, k->Q * k->heads), TAKE(dy, k->Q * k->E), TAKE(dX, k->Q * k->E);
        TAKE(mirror, k->E * k->Q), TAKE(CT, k->N * k->Q), TAKE(gradient, k->N * k->Q);
        TAKE(mirrored, k->Q * k->N), TAKE(dS, k->Q * k->Q), TAKE(dST, k->Q * k->Q), TAKE(dH, k->N * k->E);
        TAKE(dD, k->E + 2 * LANES);
        k->through = (double *)(start ? start + taken : NULL);
        taken += 2 * k->heads;
    }
    if (start && s->D) VARIANT(spread)(s->D + head, n_heads, k->P, k->D);
#undef TAKE
    return taken;
}

static int64_t VARIANT(ssd_room)(const Ssd *s, int64_t n_heads, int backward) {
    Room k;
    return VARIANT(lay_out)(s, 0, n_heads, backward, NULL, &k);
}

INLINE int64_t VARIANT(token_of)(const Ssd *s, int64_t sequence, int64_t i) {
    return s->reverse ? s->cu_seqlens[sequence + 1] - 1 - i : s->cu_seqlens[sequence] + i;
}

/* H (states, columns) times a factor for each column. */
INLINE void VARIANT(decay)(const Ssd *s, const Room *k, float *H, const float *factor) {
    for (int64_t n = 0; n < s->states; n++)
        for (int64_t e = 0; e < k->E; e += LANES)
            VARIANT(store)(H + n * k->E + e, VARIANT(load)(H + n * k->E + e, LANES) * VARIANT(load)(factor + e, LANES), LANES);
}

/* Copies states between a Room and an array (..., states, channels): the thread's columns of it. */
INLINE void VARIANT(copy_states)(const Ssd *s, const Room *k, float *to, int64_t to_row, const float *from, int64_t from_row) {
    for (int64_t n = 0; n < s->states; n++) memcpy(to + n * to_row, from + n * from_row, k->n_heads * k->P * sizeof(float));
}

/* Takes in a chunk, L steps from step `at` of a sequence on: fills dt, rise, fall, rises, inputs, enter, X, B, C, BT, S. */
INLINE void VARIANT(take_in)(const Ssd *s, Room *k, int64_t sequence, int64_t at, int64_t L) {
    for (int64_t i = 0; i < L; i++) {
        const int64_t t = VARIANT(token_of)(s, sequence, at + i);
        memcpy(k->dt + i * k->heads, s->dt + t * s->dt_row + k->head, k->n_heads * sizeof(float));
        memcpy(k->B + i * k->N, s->B + t * s->B_row, s->states * sizeof(float));
        memcpy(k->C + i * k->N, s->C + t * s->C_row, s->states * sizeof(float));
    }
    for (int64_t h = 0; h < k->n_heads; h += LANES) {
        const vec A = VARIANT(load)(s->A + k->head + h, SMALLER(k->n_heads - h, LANES));
        vec c = {0};
        for (int64_t i = 0; i < L; i++) {
            const vec step = VARIANT(load)(k->dt + i * k->heads + h, LANES) * A;
            if (i) c += VARIANT(at_least)(step, LOWEST_LOG_DECAY);
            VARIANT(store)(k->rise + i * k->heads + h, c, LANES);
        }
        const vec middle = c * 0.5f, first = VARIANT(load)(k->dt + h, LANES) * A;
        for (int64_t i = 0; i < L; i++) {
            float *rise = k->rise + i * k->heads + h;
            const vec height = VARIANT(load)(rise, LANES) - middle;
            VARIANT(store)(rise, VARIANT(exp)(height), LANES);
            VARIANT(store)(k->fall + i * k->heads + h, VARIANT(exp)(-height), LANES);
        }
        VARIANT(store)(k->row + h, VARIANT(exp)(first) * VARIANT(load)(k->fall + h, LANES), LANES); /* fall[0] is exp(m) */
    }
    VARIANT(spread)(k->row, k->n_heads, k->P, k->enter);
    for (int64_t i = 0; i < L; i++) {
        const float *x = s->x + VARIANT(token_of)(s, sequence, at + i) * s->x_row + k->head * k->P;
        VARIANT(spread)(k->rise + i * k->heads, k->n_heads, k->P, k->rises + i * k->E);
        for (int64_t h = 0; h < k->n_heads; h += LANES)
            VARIANT(store)(k->row + h, VARIANT(load)(k->fall + i * k->heads + h, LANES) * VARIANT(load)(k->dt + i * k->heads + h, LANES), LANES);
        VARIANT(spread)(k->row, k->n_heads, k->P, k->inputs + i * k->E);
        FOR_COLUMNS(e, width, k->n_heads * k->P)
            VARIANT(store)(k->X + i * k->E + e, VARIANT(load)(k->inputs + i * k->E + e, LANES) * VARIANT(load)(x + e, width), LANES);
    }
    VARIANT(transpose)(L, s->states, k->B, k->N, k->BT, k->Q);
    VARIANT(multiply)(L, L, s->states, k->C, k->N, 1, k->BT, k->Q, k->S, k->Q, 0, WHOLE);
    for (int64_t i = 0; i < L; i++)
        for (int64_t j = i + 1; j < L; j++) k->S[i * k->Q + j] = 0.0f;
}

/* A thread's part. `flowing` (tokens, channels), if given, gets y without D x, and `kept` the H of each
 * chunk that has one; `final` (sequences, states, channels) may be NULL. */
static void VARIANT(ssd)(const Ssd *s, Part part, float *room, float *y, float *flowing, float *kept, float *final) {
    Room room_, *k = &room_;
    VARIANT(lay_out)(s, part.head, part.n_heads, 0, room, k);
    const int64_t channels = s->heads * k->P, columns = k->n_heads * k->P, e0 = k->head * k->P, size = s->states * channels;
    for (int64_t q = 0; q < s->sequences; q++) {
        if (s->owner && s->owner[q] != part.thread) continue;
        int entering = s->initial != NULL;
        if (entering) VARIANT(copy_states)(s, k, k->H, k->E, s->initial + q * size + e0, channels);
        for (int64_t chunk = s->first_chunk[q], at = 0; chunk < s->first_chunk[q + 1]; at += s->steps[chunk++]) {
            const int64_t L = s->steps[chunk];
            VARIANT(take_in)(s, k, q, at, L);
            VARIANT(multiply)(L, columns, L, k->S, k->Q, 1, k->X, k->E, k->y, k->E, 0, LOWER);
            if (entering) {
                VARIANT(decay)(s, k, k->H, k->enter);
                VARIANT(multiply)(L, columns, s->states, k->C, k->N, 1, k->H, k->E, k->y, k->E, 1, WHOLE);
                if (kept) VARIANT(copy_states)(s, k, kept + chunk * size + e0, channels, k->H, k->E);
            }
            for (int64_t i = 0; i < L; i++) {
                const int64_t t = VARIANT(token_of)(s, q, at + i), row = t * channels + e0;
                FOR_COLUMNS(e, width, columns) {
                    vec v = VARIANT(load)(k->y + i * k->E + e, LANES) * VARIANT(load)(k->rises + i * k->E + e, LANES);
                    if (flowing) VARIANT(store)(flowing + row + e, v, width);
                    if (s->D) v += VARIANT(load)(k->D + e, LANES) * VARIANT(load)(s->x + t * s->x_row + e0 + e, width);
                    VARIANT(store)(y + row + e, v, width);
                }
            }
            if (chunk + 1 < s->first_chunk[q + 1] || final) {
                VARIANT(multiply)(s->states, columns, L, k->B, 1, k->N, k->X, k->E, k->H, k->E, entering, WHOLE);
                VARIANT(decay)(s, k, k->H, k->rises + (L - 1) * k->E);
                entering = 1;
            }
        }
        if (final && entering) VARIANT(copy_states)(s, k, final + q * size + e0, channels, k->H, k->E);
    }
}

/* Hands k->gradient (states, steps) of a chunk on to an array (tokens, states). */
INLINE void VARIANT(hand_on)(const Ssd *s, const Room *k, float *to, int64_t q, int64_t at, int64_t L) {
    VARIANT(transpose)(s->states, L, k->gradient, k->Q, k->mirrored, k->N);
    for (int64_t i = 0; i < L; i++)
        memcpy(to + VARIANT(token_of)(s, q, at + i) * s->states, k->mirrored + i * k->N, s->states * sizeof(float));
}

/* The gradients of a chunk. H (states, channels) is the state that enters it, at m, or NULL. With `leaving`, dH is the
 * gradient of the state after it. With H, it then is that of the state before it. */
INLINE void VARIANT(chunk_backward)(const Ssd *s, const SsdGradients *g, Room *k, int64_t q, int64_t at, int64_t L, const float *H,
                                    int leaving) {
    const int64_t channels = s->heads * k->P, columns = k->n_heads * k->P, e0 = k->head * k->P, N = s->states;
    VARIANT(take_in)(s, k, q, at, L);
    VARIANT(transpose)(L, N, k->C, k->N, k->CT, k->Q);
    for (int64_t i = 0; i < L; i++) {
        const int64_t t = VARIANT(token_of)(s, q, at + i), row = t * channels + e0;
        FOR_COLUMNS(e, width, columns) {
            const vec dy = VARIANT(load)(g->dy + row + e, width);
            VARIANT(store)(k->dy + i * k->E + e, dy * VARIANT(load)(k->rises + i * k->E + e, LANES), LANES);
            VARIANT(store)(k->row + e, dy * VARIANT(load)(g->flowing + row + e, width), LANES);
            if (s->D)
                VARIANT(store)(k->dD + e, VARIANT(load)(k->dD + e, LANES) + dy * VARIANT(load)(s->x + t * s->x_row + e0 + e, width), LANES);
        }
        VARIANT(sum_heads)(k->row, k->n_heads, k->P, k->spent + i * k->heads);
    }
    if (s->D) {
        VARIANT(sum_heads)(k->dD, k->n_heads, k->P, k->row);
        for (int64_t h = 0; h < k->n_heads; h++) g->dD[k->head + h] += k->row[h];
        memset(k->dD, 0, k->E * sizeof(float));
    }
    VARIANT(transpose)(L, columns, k->dy, k->E, k->mirror, k->Q);
    VARIANT(multiply)(L, L, columns, k->X, k->E, 1, k->mirror, k->Q, k->dST, k->Q, 0, WHOLE);
    for (int64_t j = 0; j < L; j++)
        for (int64_t i = 0; i < j; i++) k->dST[j * k->Q + i] = 0.0f;
    VARIANT(transpose)(L, L, k->dST, k->Q, k->dS, k->Q);

    VARIANT(multiply)(N, L, L, k->BT, k->Q, 1, k->dST, k->Q, k->gradient, k->Q, 0, WHOLE);
    if (H) VARIANT(multiply)(N, L, columns, H, channels, 1, k->mirror, k->Q, k->gradient, k->Q, 1, WHOLE);
    VARIANT(hand_on)(s, k, g->dC, q, at, L);
    VARIANT(multiply)(N, L, L, k->CT, k->Q, 1, k->dS, k->Q, k->gradient, k->Q, 0, WHOLE);
    if (leaving) {
        VARIANT(decay)(s, k, k->dH, k->rises + (L - 1) * k->E);
        VARIANT(transpose)(L, columns, k->X, k->E, k->mirror, k->Q);
        VARIANT(multiply)(N, L, columns, k->dH, k->E, 1, k->mirror, k->Q, k->gradient, k->Q, 1, WHOLE);
    }
    VARIANT(hand_on)(s, k, g->dB, q, at, L);

    VARIANT(multiply)(L, columns, L, k->S, 1, k->Q, k->dy, k->E, k->dX, k->E, 0, UPPER);
    if (leaving) VARIANT(multiply)(L, columns, N, k->B, k->N, 1, k->dH, k->E, k->dX, k->E, 1, WHOLE);
    for (int64_t i = 0; i < L; i++) {
        const int64_t t = VARIANT(token_of)(s, q, at + i), row = t * channels + e0;
        FOR_COLUMNS(e, width, columns) {
            const vec dX = VARIANT(load)(k->dX + i * k->E + e, LANES);
            vec dx = dX * VARIANT(load)(k->inputs + i * k->E + e, LANES);
            if (s->D) dx += VARIANT(load)(k->D + e, LANES) * VARIANT(load)(g->dy + row + e, width);
            VARIANT(store)(g->dx + row + e, dx, width);
            VARIANT(store)(k->row + e, dX * VARIANT(load)(s->x + t * s->x_row + e0 + e, width), LANES);
        }
        VARIANT(sum_heads)(k->row, k->n_heads, k->P, k->given + i * k->heads);
    }

    memset(k->through, 0, k->n_heads * sizeof(double));
    if (H) {
        VARIANT(multiply)(N, columns, L, k->C, 1, k->N, k->dy, k->E, k->dH, k->E, leaving, WHOLE);
        FOR_COLUMNS(e, width, columns) {
            vec sum = {0};
            for (int64_t n = 0; n < N; n++)
                sum += VARIANT(load)(H + n * channels + e, width) * VARIANT(load)(k->dH + n * k->E + e, LANES);
            VARIANT(store)(k->row + e, sum, LANES);
        }
        VARIANT(sum_heads)(k->row, k->n_heads, k->P, k->y);
        for (int64_t h = 0; h < k->n_heads; h++) k->through[h] = k->y[h];
        VARIANT(decay)(s, k, k->dH, k->enter);
    }
    for (int64_t i = 0; i < L; i++)
        for (int64_t h = 0; h < k->n_heads; h++) {
            const int64_t head = k->head + h, at_h = i * k->heads + h;
            const float dt = k->dt[at_h], A = s->A[head], d_input = k->given[at_h] * k->fall[at_h];
            const double d_log_decay = i && dt * A < LOWEST_LOG_DECAY ? 0.0 : k->through[h];
            g->dA[head] += d_log_decay * dt;
            g->d_dt[VARIANT(token_of)(s, q, at + i) * s->heads + head] = d_input + d_log_decay * A;
            k->through[h] += d_input * dt - k->spent[at_h];
        }
}

/* A thread's part. */
static void VARIANT(ssd_backward)(const Ssd *s, const SsdGradients *g, Part part, float *room) {
    Room room_, *k = &room_;
    VARIANT(lay_out)(s, part.head, part.n_heads, 1, room, k);
    const int64_t channels = s->heads * k->P, e0 = k->head * k->P, size = s->states * channels;
    for (int64_t q = 0; q < s->sequences; q++) {
        if (s->owner && s->owner[q] != part.thread) continue;
        int leaving = g->d_final != NULL;
        if (leaving) VARIANT(copy_states)(s, k, k->dH, k->E, g->d_final + q * size + e0, channels);
        int64_t at = s->cu_seqlens[q + 1] - s->cu_seqlens[q];
        for (int64_t chunk = s->first_chunk[q + 1] - 1; chunk >= s->first_chunk[q]; chunk--) {
            const int entering = s->initial || chunk > s->first_chunk[q];
            at -= s->steps[chunk];
            VARIANT(chunk_backward)(s, g, k, q, at, s->steps[chunk], entering ? g->kept + chunk * size + e0 : NULL, leaving);
            leaving = 1;
        }
        if (g->d_initial && leaving) VARIANT(copy_states)(s, k, g->d_initial + q * size + e0, channels, k->dH, k->E);
    }
}
#undef Room
