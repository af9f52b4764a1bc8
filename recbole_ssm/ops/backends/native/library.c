/* What is worth doing in C: recurrences and short convolutions over a packed stream, forward and backward, in float32.
 *
 * Plain C behind a C interface: it is loaded with ctypes and knows nothing of Python or torch. The loops (machine.h)
 * are compiled for AVX-512, for AVX2 and for any machine, and the best that this one has is chosen when it runs. Threads
 * share out the channels, so that each writes memory of its own; what has to be summed over channels goes into buffers of
 * each thread's own.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define SMALLER(a, b) ((a) < (b) ? (a) : (b))

/* The lowest log decay of a step within a chunk: exp(-20) is less than float resolves next to 1. And that of a chunk, so
 * that exp of it stays in range. */
#define LOWEST_LOG_DECAY -20.0f
#define LOWEST_LOG_DECAY_OF_CHUNK -80.0f

typedef enum { WHOLE, LOWER, UPPER } Shape;

enum {
    CACHE_LINE = 16,  /* floats */
    MOST_VECTORS = 4, /* worked on together: TOGETHER of them, as the registers of a machine allow */
    MOST_ROWS = 6,    /* of a product of matrices, worked on together */
    SEGMENT = 16,     /* steps of a scan between two kept states */
    MOST_TAPS = 16,   /* of a convolution */
    PANEL = 64,       /* columns of a large matrix, worked on together */
    MOST_INNER = 128, /* rows of it, likewise */
    ROWS_OF_TILE = 96 /* of a feed-forward network, worked on together */
};

typedef struct {
    int64_t sequences, channels, states;
    int64_t u_row, dt_row, B_row, C_row; /* elements from one token to the next */
    const int32_t *cu_seqlens;           /* (sequences + 1) */
    const int64_t *checkpoint;           /* number of the first kept state of each sequence */
    const float *u, *dt, *B, *C;         /* (tokens, channels or states) */
    const float *A;                      /* (states, channels) */
    const float *D;                      /* (channels) or NULL */
    const float *initial;                /* (sequences, states, channels) or NULL */
    int32_t reverse, threads;
} Scan;

typedef struct {
    const float *dy, *d_final, *kept;
    float *du, *d_dt, *dA, *dD, *d_initial; /* each channel is written by the one thread that has it */
    float *dB, *dC;                         /* of this thread, (tokens, states), added to */
} ScanGradients;

typedef struct {
    int64_t sequences, heads, headdim, states;
    int64_t x_row, dt_row, B_row, C_row;    /* elements from one token to the next */
    const int32_t *cu_seqlens;              /* (sequences + 1) */
    const int64_t *first_chunk;             /* (sequences + 1), of each sequence */
    const int32_t *steps;                   /* of each chunk */
    const int32_t *owner;                   /* (sequences), the thread of each; or NULL: the threads share the heads */
    const float *x, *dt, *B, *C;            /* (tokens, channels, heads or states) */
    const float *A, *D;                     /* (heads); D may be NULL */
    const float *initial;                   /* (sequences, states, channels) or NULL */
    int32_t reverse, threads;
} Ssd;

typedef struct {
    const float *dy, *flowing, *kept, *d_final;
    float *dx, *d_dt, *d_initial; /* each head of each sequence is written by the one thread that has it */
    double *dA, *dD;              /* of this thread, (heads), added to */
    float *dB, *dC;               /* (tokens, states), of this thread where threads share the heads */
} SsdGradients;

/* A thread's part of a scan: some heads of all sequences, or all heads of some. */
typedef struct {
    int64_t thread, head, n_heads;
} Part;

typedef struct {
    int64_t sequences, channels, taps;
    int64_t x_row, dy_row;     /* elements from one token to the next */
    const int32_t *cu_seqlens; /* (sequences + 1) */
    const float *x;            /* (tokens, channels) */
    const float *weight;       /* (taps, channels) */
    const float *bias;         /* (channels) or NULL */
    int32_t ahead;             /* tap k meets token t + k - taps + 1 + ahead */
    int32_t silu, threads;
} Convolution;

typedef struct {
    const int32_t *items;      /* what is negative is none */
    const float *values;       /* of the items, or NULL for ones */
    const int64_t *start, *end; /* (rows, groups): those of group g of row r are items[start[r, g]:end[r, g]] */
    const float *weight;       /* (rows, groups): times the value it is added to the logit */
    float *gradient;           /* (rows, groups), of weight; overwritten */
    int64_t groups;
} Added;

typedef struct {
    int64_t rows, items, width;          /* the width is a multiple of 16 */
    const float *hidden, *weight, *bias; /* (rows, width), (items, width), (items) or NULL */
    const int64_t *target;               /* (rows); what is negative counts nothing */
    const Added *added, *taught_added;   /* (n_added), to the logits, and (n_taught_added), to the teacher's */
    int64_t n_added, n_taught_added;
    int64_t taught_width;                      /* of a teacher, whose logits are taught_weight taught_hidden */
    const float *taught_hidden, *taught_weight; /* (rows, taught_width), (items, taught_width); NULL without one */
    float share;                               /* of the targets that the teacher's softmax has */
    int32_t threads;
} CrossEntropy;

typedef struct {
    float *hidden;        /* (rows, width), overwritten */
    float *weight, *bias; /* of this thread, (items, width) and (items), added to; bias may be NULL */
} CrossEntropyGradients;

typedef struct {
    int64_t rows, width, y_row, z_row;
    const float *y, *z, *weight; /* (rows, width), (rows, width), (width) */
    float eps;
    int32_t norm_before_gate, threads;
} GatedNorm;

typedef struct {
    int64_t rows, width, inner;
    const float *x;                 /* (rows, width) */
    const float *W1, *W1T, *b1;     /* (inner, width), (width, inner) or NULL, (inner) */
    const float *W2, *W2T, *b2;     /* (width, inner), (inner, width) or NULL, (width) */
    const float *weight, *bias;     /* of the norm, (width) */
    uint64_t seeds[2];              /* of both dropouts */
    uint32_t least;                 /* as in recbole_ssm_dropout; 0 for none */
    float scale, eps;
    int32_t dropout_after_norm, threads;
} FeedForward;

typedef struct {
    float *x, *W1, *b1, *W2, *b2, *weight, *bias;
} FeedForwardGradients;

/* Steps of mixers, for rows of sequences that get a token each. Rows of hidden, window and state may lie apart. */
typedef struct {
    int64_t rows, width, heads, headdim, states, groups, taps;
    int64_t hidden_row, window_row, state_row; /* elements from one row to the next */
    const float *hidden, *window, *state;      /* (width), (channels, taps - 1), (heads, headdim, states) of each row */
    const float *more_dt;                      /* (rows, heads), added to step sizes before softplus; or NULL */
    const float *in_proj;                      /* (inner + channels + heads, width), inner = heads headdim */
    const float *conv_weight, *conv_bias;      /* (channels, taps), (channels), channels = inner + 2 groups states */
    const float *dt_bias, *A_log, *D;          /* (heads) */
    const float *norm, *out_proj;              /* (inner), (width, inner) */
    float eps;
    int32_t threads;
} Mamba2Step;

typedef struct {
    int64_t rows, width, channels, states, rank, taps;
    int64_t hidden_row, window_row, state_row;
    const float *hidden, *window, *state; /* (width), (channels, taps - 1), (channels, states) of each row */
    const float *more_dt;                 /* (rows, channels), as above */
    const float *in_proj;                 /* (2 channels, width) */
    const float *conv_weight, *conv_bias; /* (channels, taps), (channels) */
    const float *x_proj;                  /* (rank + 2 states, channels) */
    const float *dt_proj, *dt_bias;       /* (channels, rank), (channels) */
    const float *A_log, *D, *out_proj;    /* (channels, states), (channels), (width, channels) */
    int32_t threads;
} MambaStep;

typedef struct {
    int64_t rows, width, size;
    int64_t hidden_row, state_row;               /* those of state are floats */
    const float *hidden, *state;                 /* (width), (size) complex of each row */
    const float *elapsed;                        /* (rows, size), times the rate of decay; NULL for ones */
    const float *nu_log, *theta_log, *gamma_log; /* (size) */
    const float *in_proj, *in_bias;              /* (2 size, width), (2 size) */
    const float *out_proj, *out_bias;            /* (width, 2 size), (width) */
    int32_t threads;
} LruStep;

/* What follows a mixer in a layer: a feed-forward network of LayerNorm(mixed [+ hidden]). */
typedef struct {
    int64_t rows, width, inner, mixed_row, hidden_row; /* elements from one row to the next; widths as of FeedForward */
    const float *mixed, *hidden;                       /* (width) of each row; hidden may be NULL */
    const float *norm, *norm_bias;                     /* (width) */
    const float *W1, *b1, *W2, *b2, *weight, *bias;    /* of the network; see FeedForward */
    float eps, eps_of_network;
    int32_t threads;
} MixedStep;

/* Logits: panels, elements from one row to the next, and rows together, whose logits fill 32 MB at most (but for 6), and
 * a teacher's as much. */
static int64_t panels_of(int64_t items) { return (items + PANEL - 1) / PANEL; }
static int64_t row_of(int64_t items) { return panels_of(items) * PANEL + CACHE_LINE; }
static int64_t rows_together(int64_t items) {
    const int64_t rows = (1 << 23) / row_of(items) / MOST_ROWS * MOST_ROWS;
    return rows < MOST_ROWS ? MOST_ROWS : SMALLER(rows, 8 * MOST_ROWS);
}

static Part part_of(const Ssd *s, int64_t thread) {
    if (s->owner) return (Part){thread, 0, s->heads};
    const int64_t first = s->heads * thread / s->threads;
    return (Part){thread, first, s->heads * (thread + 1) / s->threads - first};
}

/* Most steps of a chunk: the more states, the more a chunk is worth that is long. */
static int64_t most_steps(const Ssd *s) { return s->states < 64 ? 32 : 64; }

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#define JOIN_(name, suffix) name##_##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)
#define VARIANT(name) JOIN(name, MACHINE)
#define PADDED(n) (((n) + LANES - 1) / LANES * LANES)

/* Over the vectors that are worked on together, unrolled, so that they stay in registers. */
#define FOR_VECTORS(w, W) _Pragma("GCC unroll 4") for (int w = 0; w < W; w++)
#define FOR_ROWS(r, R) _Pragma("GCC unroll 6") for (int r = 0; r < R; r++)

/* Over as many vectors as one has lanes. */
#define FOR_LANES(i) _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++)

/* Over columns a vector at a time; the last has only `width` of them. */
#define FOR_COLUMNS(e, width, columns)                                                                                 \
    for (int64_t e = 0, width = SMALLER(columns, LANES); e < columns; e += LANES, width = SMALLER((columns)-e, LANES))

/* Cuts the channels from first to last into what is worked on together: call(W, width) with e0. */
#define FOR_CHANNELS(first, last, call)                                                                                \
    do {                                                                                                               \
        int64_t e0 = first;                                                                                            \
        for (; TOGETHER > 1 && e0 + TOGETHER * LANES <= last; e0 += TOGETHER * LANES) call(TOGETHER, LANES);            \
        for (; e0 < last; e0 += LANES) call(1, SMALLER(last - e0, LANES));                                             \
    } while (0)

#define MACHINE any
#define LANES 4
#define TOGETHER 1
#include "machine.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define X86_VARIANTS
#pragma GCC push_options
#pragma GCC target("arch=haswell")
#define MACHINE avx2
#define LANES 8
#define TOGETHER 2
#include "machine.h"
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=skylake-avx512,prefer-vector-width=512")
#define MACHINE avx512
#define LANES 16
#define TOGETHER 4
#include "machine.h"
#pragma GCC pop_options
#endif

typedef struct {
    void (*scan)(const Scan *, int64_t, int64_t, void *, float *, float *, float *);
    void (*scan_backward)(const Scan *, const ScanGradients *, int64_t, int64_t, void *);
    int64_t (*ssd_room)(const Ssd *, int64_t, int);
    void (*ssd)(const Ssd *, Part, float *, float *, float *, float *, float *);
    void (*ssd_backward)(const Ssd *, const SsdGradients *, Part, float *);
    void (*conv1d)(const Convolution *, int64_t, int64_t, float *);
    void (*conv1d_backward)(const Convolution *, int64_t, int64_t, const float *, float *, float *, float *);
    void (*cross_entropy_panels)(int64_t, int64_t, const float *, float *);
    double (*cross_entropy)(const CrossEntropy *, const CrossEntropyGradients *, int64_t, int64_t, const float *, const float *,
                            float *);
    void (*gated_norm)(const GatedNorm *, int64_t, int64_t, float *, float *);
    void (*gated_norm_backward)(const GatedNorm *, int64_t, int64_t, float *, const float *, float *, float *, float *);
    void (*feed_forward)(const FeedForward *, int64_t, int64_t, float *, float *, float *, float *, float *);
    void (*feed_forward_backward)(const FeedForward *, int64_t, int64_t, float *, const float *, const float *, const float *,
                                  const float *, const FeedForwardGradients *);
    void (*dropout)(int64_t, int64_t, const float *, uint64_t, uint32_t, float, float *);
    int64_t (*mamba2_room)(const Mamba2Step *, int64_t);
    void (*mamba2_step)(const Mamba2Step *, int64_t, int64_t, float *, float *, float *, float *);
    int64_t (*mamba_room)(const MambaStep *, int64_t);
    void (*mamba_step)(const MambaStep *, int64_t, int64_t, float *, float *, float *, float *);
    int64_t (*lru_room)(const LruStep *, int64_t);
    void (*lru_step)(const LruStep *, int64_t, int64_t, float *, float *, float *);
    int64_t (*mixed_room)(const MixedStep *, int64_t);
    void (*mixed_step)(const MixedStep *, int64_t, int64_t, float *, float *);
} Kernels;

#define KERNELS(machine)                                                                                               \
    {                                                                                                                  \
        scan_##machine, scan_backward_##machine, ssd_room_##machine, ssd_##machine, ssd_backward_##machine,            \
            conv1d_##machine, conv1d_backward_##machine, cross_entropy_panels_##machine, cross_entropy_##machine,          \
            gated_norm_##machine, gated_norm_backward_##machine, feed_forward_##machine, feed_forward_backward_##machine,  \
            dropout_##machine, mamba2_room_##machine, mamba2_step_##machine, mamba_room_##machine,                         \
            mamba_step_##machine, lru_room_##machine, lru_step_##machine, mixed_room_##machine, mixed_step_##machine       \
    }

/* Kinds of machines; no wider one than this is used. */
enum { ANY, AVX2, AVX512 };
static int widest = AVX512;

static int machine(void) {
#ifdef X86_VARIANTS
    if (widest >= AVX512 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        return AVX512;
    if (widest >= AVX2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
    return ANY;
}

static const Kernels *kernels(void) {
#ifdef X86_VARIANTS
    static const Kernels all[] = {KERNELS(any), KERNELS(avx2), KERNELS(avx512)};
#else
    static const Kernels all[] = {KERNELS(any)};
#endif
    return &all[machine()];
}

/* First channel of a thread. */
static int64_t share(int64_t channels, int64_t thread, int64_t threads) {
    const int64_t lines = (channels + CACHE_LINE - 1) / CACHE_LINE;
    return SMALLER(lines * thread / threads * CACHE_LINE, channels);
}

/* Denormal numbers, which decayed states pass through, slow arithmetic down a hundredfold: they count as 0 in here.
 * Returns what `restore` needs to undo it. */
static unsigned flush_denormals(void) {
#ifdef __SSE__
    const unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | 0x8040);
    return before;
#else
    return 0;
#endif
}

static void restore(unsigned before) {
#ifdef __SSE__
    __builtin_ia32_ldmxcsr(before);
#else
    (void)before;
#endif
}

/* Room for so many vectors of the widest kind. */
static void *room(int64_t vectors) { return aligned_alloc(64, vectors * 64); }

/* Room for so many floats, all zero: what fills vectors up must not be what slows arithmetic down, denormal or NaN. */
static float *cleared(int64_t floats) {
    const int64_t bytes = (floats * 4 + 63) / 64 * 64;
    float *memory = aligned_alloc(64, bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

/* Changes whenever a structure or a function of the interface does. */
int recbole_ssm_interface(void) { return 11; }

/* Uses no wider kind of machine than this (0 any, 1 AVX2, 2 AVX-512), which tests want; returns the kind in use. */
int recbole_ssm_use(int kind) {
    widest = kind;
    return machine();
}

/* Steps between two kept states of a sequence. */
int64_t recbole_ssm_scan_segment(void) { return SEGMENT; }

/* y (tokens, channels); final (sequences, states, channels) and kept (number of kept states, states, channels) may be
 * NULL. Returns 0, or 1 when memory ran out. */
int recbole_ssm_scan(const Scan *s, float *y, float *final, float *kept) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const int64_t first = share(s->channels, thread, s->threads);
        const int64_t last = share(s->channels, thread + 1, s->threads);
        const unsigned mode = flush_denormals();
        void *h = room(MOST_VECTORS * s->states);
        if (h)
            kernels()->scan(s, first, last, h, y, final, kept);
        else
            failed = 1;
        free(h);
        restore(mode);
    }
    return failed;
}

/* dA, dD, and dB and dC (threads, tokens, states) start at zero and are added to.
 * d_final, dD and d_initial may be NULL. Returns as above. */
int recbole_ssm_scan_backward(const Scan *s, int64_t tokens, const float *dy, const float *d_final, const float *kept, float *du,
                              float *d_dt, float *dA, float *dB, float *dC, float *dD, float *d_initial) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const int64_t first = share(s->channels, thread, s->threads);
        const int64_t last = share(s->channels, thread + 1, s->threads);
        const int64_t own = thread * tokens * s->states;
        const ScanGradients g = {dy, d_final, kept, du, d_dt, dA, dD, d_initial, dB + own, dC + own};
        const unsigned mode = flush_denormals();
        void *work = room(s->states * MOST_VECTORS * (2 * SEGMENT + 2) + 2 * s->states);
        if (work)
            kernels()->scan_backward(s, &g, first, last, work);
        else
            failed = 1;
        free(work);
        restore(mode);
    }
    return failed;
}

/* Cuts the sequences into chunks within which no decay leaves the range of float: fills first_chunk (sequences + 1) and steps,
 * which has room for one chunk per token. Returns 0, or 1 when memory ran out. */
int recbole_ssm_ssd_cut(const Ssd *s, int64_t *first_chunk, int32_t *steps) {
    int64_t chunks = 0;
    float *sum = malloc((s->heads + 1) * sizeof(float));
    if (!sum) return 1;
    for (int64_t q = 0; q < s->sequences; q++) {
        first_chunk[q] = chunks;
        for (int64_t i = 0; i < s->cu_seqlens[q + 1] - s->cu_seqlens[q]; i++) {
            const int64_t t = s->reverse ? s->cu_seqlens[q + 1] - 1 - i : s->cu_seqlens[q] + i;
            float lowest = 0.0f;
            for (int64_t h = 0; i && h < s->heads; h++) {
                const float step = s->dt[t * s->dt_row + h] * s->A[h];
                sum[h] += step < LOWEST_LOG_DECAY ? LOWEST_LOG_DECAY : step;
                lowest = SMALLER(lowest, sum[h]);
            }
            if (!i || steps[chunks - 1] == most_steps(s) || lowest < LOWEST_LOG_DECAY_OF_CHUNK) {
                steps[chunks++] = 0;
                memset(sum, 0, s->heads * sizeof(float));
            }
            steps[chunks - 1]++;
        }
    }
    first_chunk[s->sequences] = chunks;
    free(sum);
    return 0;
}

/* y (tokens, channels). flowing (tokens, channels) and kept (chunks, states, channels) are for the backward pass and may be
 * NULL, as may final (sequences, states, channels). Returns 0, or 1 when memory ran out. */
int recbole_ssm_ssd(const Ssd *s, float *y, float *flowing, float *kept, float *final) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const Part part = part_of(s, thread);
        const unsigned mode = flush_denormals();
        float *work = cleared(kernels()->ssd_room(s, part.n_heads, 0));
        if (work)
            kernels()->ssd(s, part, work, y, flowing, kept, final);
        else
            failed = 1;
        free(work);
        restore(mode);
    }
    return failed;
}

/* dA and dD (threads, heads) start at zero and are added to. dB and dC are (threads, tokens, states), or (tokens, states) if
 * sequences have owners. d_final, dD and d_initial may be NULL. Returns as above. */
int recbole_ssm_ssd_backward(const Ssd *s, int64_t tokens, const float *dy, const float *flowing, const float *kept,
                             const float *d_final, float *dx, float *d_dt, double *dA, float *dB, float *dC, double *dD,
                             float *d_initial) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const Part part = part_of(s, thread);
        const int64_t own = s->owner ? 0 : thread * tokens * s->states;
        const SsdGradients g = {
            dy, flowing, kept, d_final, dx, d_dt, d_initial, dA + thread * s->heads, dD ? dD + thread * s->heads : NULL,
            dB + own, dC + own};
        const unsigned mode = flush_denormals();
        float *work = cleared(kernels()->ssd_room(s, part.n_heads, 1));
        if (work)
            kernels()->ssd_backward(s, &g, part, work);
        else
            failed = 1;
        free(work);
        restore(mode);
    }
    return failed;
}

/* y (tokens, channels). Returns 0, or 1 for more taps than MOST_TAPS. */
int recbole_ssm_conv1d(const Convolution *c, float *y) {
    if (c->taps > MOST_TAPS) return 1;
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t thread = 0; thread < c->threads; thread++)
        kernels()->conv1d(c, share(c->channels, thread, c->threads), share(c->channels, thread + 1, c->threads), y);
    return 0;
}

/* dx (tokens, channels); d_weight (taps, channels) and d_bias (channels) start at zero and are added to; d_bias may be NULL.
 * Returns as above. */
int recbole_ssm_conv1d_backward(const Convolution *c, const float *dy, float *dx, float *d_weight, float *d_bias) {
    if (c->taps > MOST_TAPS) return 1;
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t thread = 0; thread < c->threads; thread++)
        kernels()->conv1d_backward(c, share(c->channels, thread, c->threads), share(c->channels, thread + 1, c->threads), dy,
                                   dx, d_weight, d_bias);
    return 0;
}

/* loss (threads) of each thread's rows. d_hidden (rows, width) is overwritten and may be NULL, as may all gradients then;
 * d_weight (threads, items, width) and d_bias (threads, items) start at zero and are added to. Returns as above. */
int recbole_ssm_cross_entropy(const CrossEntropy *s, double *loss, float *d_hidden, float *d_weight, float *d_bias) {
    int failed = 0;
    const int64_t block = rows_together(s->items);
    const int64_t columns = panels_of(s->items) * PANEL, taught = s->taught_hidden != NULL;
    float *panels = room(columns * (s->width + s->taught_width) / CACHE_LINE);
    if (!panels) return 1;
    float *const taught_panels = panels + columns * s->width;
    kernels()->cross_entropy_panels(s->items, s->width, s->weight, panels);
    if (taught) kernels()->cross_entropy_panels(s->items, s->taught_width, s->taught_weight, taught_panels);
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const CrossEntropyGradients g = {d_hidden, d_weight + thread * s->items * s->width,
                                         d_bias ? d_bias + thread * s->items : NULL};
        const unsigned mode = flush_denormals();
        float *work = cleared(block * ((1 + taught) * row_of(s->items) + s->width + 1));
        if (work)
            loss[thread] = kernels()->cross_entropy(s, d_hidden ? &g : NULL, s->rows * thread / s->threads,
                                                    s->rows * (thread + 1) / s->threads, panels, taught_panels, work);
        else
            failed = 1;
        free(work);
        restore(mode);
    }
    free(panels);
    return failed;
}

/* out (rows, width). Returns as above. */
int recbole_ssm_gated_norm(const GatedNorm *s, float *out) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        float *work = cleared(2 * (s->width + CACHE_LINE));
        if (work)
            kernels()->gated_norm(s, s->rows * thread / s->threads, s->rows * (thread + 1) / s->threads, work, out);
        else
            failed = 1;
        free(work);
    }
    return failed;
}

/* dy and dz (rows, width); d_weight (threads, width) starts at zero and is added to. Returns as above. */
int recbole_ssm_gated_norm_backward(const GatedNorm *s, const float *d_out, float *dy, float *dz, float *d_weight) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        float *work = cleared(2 * (s->width + CACHE_LINE));
        if (work)
            kernels()->gated_norm_backward(s, s->rows * thread / s->threads, s->rows * (thread + 1) / s->threads, work, d_out, dy,
                                           dz, d_weight + thread * s->width);
        else
            failed = 1;
        free(work);
    }
    return failed;
}

/* y (rows, width). kept (rows, inner), normed (rows, width) and factor (rows) are for the backward pass and may be NULL
 * together. Returns as above. */
int recbole_ssm_feed_forward(const FeedForward *s, float *y, float *kept, float *normed, float *factor) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const unsigned mode = flush_denormals();
        float *work = cleared(ROWS_OF_TILE * s->inner);
        if (work)
            kernels()->feed_forward(s, s->rows * thread / s->threads, s->rows * (thread + 1) / s->threads, work, y, kept, normed,
                                    factor);
        else
            failed = 1;
        free(work);
        restore(mode);
    }
    return failed;
}

/* dx (rows, width). Gradients (threads, ...) of W1, b1, W2, b2 and of the norm's weight and bias start at zero and are added to.
 * Returns as above. */
int recbole_ssm_feed_forward_backward(const FeedForward *s, const float *dy, const float *kept, const float *normed,
                                      const float *factor, float *dx, float *dW1, float *db1, float *dW2, float *db2,
                                      float *d_weight, float *d_bias) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const int64_t D = s->width, E = s->inner;
        const FeedForwardGradients g = {dx,
                                        dW1 + thread * D * E,
                                        db1 + thread * E,
                                        dW2 + thread * D * E,
                                        db2 + thread * D,
                                        d_weight + thread * D,
                                        d_bias + thread * D};
        const unsigned mode = flush_denormals();
        float *work = cleared(ROWS_OF_TILE * (2 * E + D));
        if (work)
            kernels()->feed_forward_backward(s, s->rows * thread / s->threads, s->rows * (thread + 1) / s->threads, work, dy,
                                             kept, normed, factor, &g);
        else
            failed = 1;
        free(work);
        restore(mode);
    }
    return failed;
}

/* y = x scale where a random number below 2^32, of the seed and the place, is `least` or more, else 0: n floats. */
void recbole_ssm_dropout(int64_t n, const float *x, uint64_t seed, uint32_t least, float scale, float *y, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t thread = 0; thread < threads; thread++)
        kernels()->dropout(share(n, thread, threads), share(n, thread + 1, threads), x, seed, least, scale, y);
}

/* What the steps have in common: each thread computes some of the rows. */
#define STEP(name, ...)                                                                                                \
    int failed = 0;                                                                                                    \
    _Pragma("omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)")                         \
    for (int64_t thread = 0; thread < s->threads; thread++) {                                                          \
        const int64_t first = s->rows * thread / s->threads, last = s->rows * (thread + 1) / s->threads;               \
        const unsigned mode = flush_denormals();                                                                       \
        float *work = cleared(kernels()->name##_room(s, last - first));                                                \
        if (work)                                                                                                      \
            kernels()->name##_step(s, first, last, work, __VA_ARGS__);                                                 \
        else                                                                                                           \
            failed = 1;                                                                                                \
        free(work);                                                                                                    \
        restore(mode);                                                                                                 \
    }                                                                                                                  \
    return failed

/* out (rows, width), window (rows, channels, taps - 1) and state (rows, heads, headdim, states). Returns as above. */
int recbole_ssm_mamba2_step(const Mamba2Step *s, float *out, float *window, float *state) { STEP(mamba2, out, window, state); }

/* out (rows, width), window (rows, channels, taps - 1) and state (rows, channels, states). Returns as above. */
int recbole_ssm_mamba_step(const MambaStep *s, float *out, float *window, float *state) { STEP(mamba, out, window, state); }

/* out (rows, width) and state (rows, size) complex. Returns as above. */
int recbole_ssm_lru_step(const LruStep *s, float *out, float *state) { STEP(lru, out, state); }

/* out (rows, width). Returns as above. */
int recbole_ssm_mixed_step(const MixedStep *s, float *out) { STEP(mixed, out); }
