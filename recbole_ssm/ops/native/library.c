/* What is worth doing in C: recurrences and short convolutions over a packed stream, forward and backward, in float32.
 *
 * Plain C behind a C interface: it is loaded with ctypes and knows nothing of Python or torch. The loops (scan.h, conv1d.h)
 * are compiled for AVX-512, for AVX2 and for any machine, and the best that this one has is chosen when it runs. Threads
 * share out the channels, so that each writes memory of its own; what has to be summed over channels goes into buffers of
 * each thread's own.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define SMALLER(a, b) ((a) < (b) ? (a) : (b))

enum {
    CACHE_LINE = 16,  /* floats */
    MOST_VECTORS = 4, /* worked on together: TOGETHER of them, as the registers of a machine allow */
    SEGMENT = 16,     /* steps of a scan between two kept states */
    MOST_TAPS = 16    /* of a convolution */
};

typedef struct {
    int64_t sequences, channels, states, per_head;
    int64_t u_row, dt_row, B_row, C_row; /* elements from one token to the next */
    const int32_t *cu_seqlens;           /* (sequences + 1) */
    const int64_t *checkpoint;           /* number of the first kept state of each sequence */
    const float *u, *dt, *B, *C;         /* (tokens, ...); dt is (tokens, channels) or (tokens, heads) */
    const float *A;                      /* (states, channels), or (channels) */
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
    int64_t sequences, channels, taps;
    int64_t x_row, dy_row;     /* elements from one token to the next */
    const int32_t *cu_seqlens; /* (sequences + 1) */
    const float *x;            /* (tokens, channels) */
    const float *weight;       /* (taps, channels) */
    const float *bias;         /* (channels) or NULL */
    int32_t ahead;             /* tap k meets token t + k - taps + 1 + ahead */
    int32_t silu, threads;
} Convolution;

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#define JOIN_(name, suffix) name##_##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)
#define VARIANT(name) JOIN(name, MACHINE)

/* Over the vectors that are worked on together, unrolled, so that they stay in registers. */
#define FOR_VECTORS(w, W) _Pragma("GCC unroll 4") for (int w = 0; w < W; w++)

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
#include "vector.h"
#include "scan.h"
#include "conv1d.h"
#undef MACHINE
#undef LANES
#undef TOGETHER
#undef vec
#undef ivec

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define X86_VARIANTS
#pragma GCC push_options
#pragma GCC target("arch=haswell")
#define MACHINE avx2
#define LANES 8
#define TOGETHER 2
#include "vector.h"
#include "scan.h"
#include "conv1d.h"
#undef MACHINE
#undef LANES
#undef TOGETHER
#undef vec
#undef ivec
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=skylake-avx512,prefer-vector-width=512")
#define MACHINE avx512
#define LANES 16
#define TOGETHER 4
#include "vector.h"
#include "scan.h"
#include "conv1d.h"
#undef MACHINE
#undef LANES
#undef TOGETHER
#undef vec
#undef ivec
#pragma GCC pop_options
#endif

typedef struct {
    void (*scan)(const Scan *, int64_t, int64_t, void *, float *, float *, float *);
    void (*scan_backward)(const Scan *, const ScanGradients *, int64_t, int64_t, void *);
    void (*conv1d)(const Convolution *, int64_t, int64_t, float *);
    void (*conv1d_backward)(const Convolution *, int64_t, int64_t, const float *, float *, float *, float *);
} Kernels;

#define KERNELS(machine)                                                                                               \
    { scan_##machine, scan_backward_##machine, conv1d_##machine, conv1d_backward_##machine }

static const Kernels *kernels(void) {
    static const Kernels any = KERNELS(any);
#ifdef X86_VARIANTS
    static const Kernels avx2 = KERNELS(avx2), avx512 = KERNELS(avx512);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        return &avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2;
#endif
    return &any;
}

/* First channel of a thread: shares are even, and what lies within `whole` channels (0 or 1: any) is not parted. */
static int64_t share(int64_t channels, int64_t whole, int64_t thread, int64_t threads) {
    int64_t unit = CACHE_LINE;
    while (whole && unit % whole) unit += CACHE_LINE;
    const int64_t units = (channels + unit - 1) / unit;
    return SMALLER(units * thread / threads * unit, channels);
}

/* Room for so many vectors of the widest kind. */
static void *room(int64_t vectors) { return aligned_alloc(64, vectors * 64); }

/* Changes whenever a structure or a function of the interface does. */
int recbole_ssm_interface(void) { return 2; }

/* Steps between two kept states of a sequence. */
int64_t recbole_ssm_scan_segment(void) { return SEGMENT; }

/* y (tokens, channels); final (sequences, states, channels) and kept (number of kept states, states, channels) may be
 * NULL. Returns 0, or 1 when memory ran out. */
int recbole_ssm_scan(const Scan *s, float *y, float *final, float *kept) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const int64_t first = share(s->channels, s->per_head, thread, s->threads);
        const int64_t last = share(s->channels, s->per_head, thread + 1, s->threads);
        void *h = room(MOST_VECTORS * s->states);
        if (h)
            kernels()->scan(s, first, last, h, y, final, kept);
        else
            failed = 1;
        free(h);
    }
    return failed;
}

/* d_dt (if per_head), dA, dD, and dB and dC (threads, tokens, states) start at zero and are added to.
 * d_final, dD and d_initial may be NULL. Returns as above. */
int recbole_ssm_scan_backward(const Scan *s, int64_t tokens, const float *dy, const float *d_final, const float *kept, float *du,
                              float *d_dt, float *dA, float *dB, float *dC, float *dD, float *d_initial) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const int64_t first = share(s->channels, s->per_head, thread, s->threads);
        const int64_t last = share(s->channels, s->per_head, thread + 1, s->threads);
        const int64_t own = thread * tokens * s->states;
        const ScanGradients g = {dy, d_final, kept, du, d_dt, dA, dD, d_initial, dB + own, dC + own};
        void *work = room(s->states * MOST_VECTORS * (2 * SEGMENT + 2) + 2 * s->states);
        if (work)
            kernels()->scan_backward(s, &g, first, last, work);
        else
            failed = 1;
        free(work);
    }
    return failed;
}

/* y (tokens, channels). Returns 0, or 1 for more taps than MOST_TAPS. */
int recbole_ssm_conv1d(const Convolution *c, float *y) {
    if (c->taps > MOST_TAPS) return 1;
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t thread = 0; thread < c->threads; thread++)
        kernels()->conv1d(c, share(c->channels, 0, thread, c->threads), share(c->channels, 0, thread + 1, c->threads), y);
    return 0;
}

/* dx (tokens, channels), d_weight (taps, channels) and d_bias (channels) start at zero and are added to; d_bias may be NULL.
 * Returns as above. */
int recbole_ssm_conv1d_backward(const Convolution *c, const float *dy, float *dx, float *d_weight, float *d_bias) {
    if (c->taps > MOST_TAPS) return 1;
#pragma omp parallel for num_threads(c->threads) schedule(static)
    for (int64_t thread = 0; thread < c->threads; thread++)
        kernels()->conv1d_backward(c, share(c->channels, 0, thread, c->threads), share(c->channels, 0, thread + 1, c->threads), dy,
                                   dx, d_weight, d_bias);
    return 0;
}
