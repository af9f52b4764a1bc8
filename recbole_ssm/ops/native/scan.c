/* Linear recurrences over a packed stream, forward and backward, in float32: Mamba's scan and Mamba-2's.
 *
 *     h[t] = exp(dt[t] A) h[t-1] + dt[t] u[t] B[t]        y[t] = h[t] C[t] + D u[t]
 *
 * Each of the channels has `states` states. With `per_head` 0 every state of a channel decays at a rate of its own
 * (Mamba); else the states of a channel share one rate, and every `per_head` channels share their dt (Mamba-2).
 *
 * Plain C behind a C interface: it is loaded with ctypes and knows nothing of Python or torch. Vectors are the
 * compiler's own (GCC, Clang): 16 channels side by side. The loops are compiled for AVX-512, for AVX2 and for any machine,
 * and the best that this one has is chosen when it runs. States are kept once in SEGMENT steps, and the backward pass
 * computes those in between again. Threads share out the channels, which are independent but for the gradients of B
 * and C: each thread sums these into buffers of its own.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum {
    LANES = 16,   /* channels in a vector */
    TOGETHER = 4, /* vectors that are worked on together, so that each B and C is fetched once for all of them */
    SEGMENT = 16  /* steps between two kept states */
};

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

typedef struct {
    int64_t sequences, channels, states, per_head;
    int64_t u_row, dt_row, B_row, C_row;  /* elements from one token to the next */
    const int32_t *cu_seqlens;            /* (sequences + 1) */
    const int64_t *checkpoint;            /* number of the first kept state of each sequence */
    const float *u, *dt, *B, *C;          /* (tokens, ...); dt is (tokens, channels) or (tokens, heads) */
    const float *A;                       /* (states, channels), or (channels) */
    const float *D;                       /* (channels) or NULL */
    const float *initial;                 /* (sequences, states, channels) or NULL */
    int32_t reverse, threads;
} Scan;

typedef struct {
    const float *dy, *d_final, *kept;
    float *du, *d_dt, *dA, *dD, *d_initial; /* each channel is written by the one thread that has it */
    float *dB, *dC;                         /* of this thread, (tokens, states), added to */
} Gradients;

#define SMALLER(a, b) ((a) < (b) ? (a) : (b))
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#define JOIN_(name, suffix) name##_##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)
#define VARIANT(name) JOIN(name, MACHINE)

#define MACHINE any
#include "scan_kernel.h"
#undef MACHINE

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define X86_VARIANTS
#pragma GCC push_options
#pragma GCC target("arch=haswell")
#define MACHINE avx2
#include "scan_kernel.h"
#undef MACHINE
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=skylake-avx512,prefer-vector-width=512")
#define MACHINE avx512
#include "scan_kernel.h"
#undef MACHINE
#pragma GCC pop_options
#endif

typedef struct {
    void (*forward)(const Scan *, int64_t, int64_t, vec *, float *, float *, float *);
    void (*backward)(const Scan *, const Gradients *, int64_t, int64_t, vec *);
} Kernels;

static const Kernels *kernels(void) {
#ifdef X86_VARIANTS
    static const Kernels avx2 = {forward_all_avx2, backward_all_avx2}, avx512 = {forward_all_avx512, backward_all_avx512};
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        return &avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2;
#endif
    static const Kernels any = {forward_all_any, backward_all_any};
    return &any;
}

/* First channel of a thread. Vectors and heads stay whole, and shares are even. */
static int64_t share(const Scan *s, int64_t thread) {
    int64_t unit = LANES;
    while (s->per_head && unit % s->per_head) unit += LANES;
    const int64_t units = (s->channels + unit - 1) / unit;
    return SMALLER(units * thread / s->threads * unit, s->channels);
}

static vec *room(int64_t vectors) { return aligned_alloc(sizeof(vec), vectors * sizeof(vec)); }

/* Changes whenever a structure or a function below does. */
int scan_interface(void) { return 1; }

/* Steps between two kept states of a sequence. */
int64_t scan_segment(void) { return SEGMENT; }

/* y (tokens, channels); final (sequences, states, channels) and kept (number of kept states, states, channels) may be
 * NULL. Returns 0, or 1 when memory ran out. */
int scan_forward(const Scan *s, float *y, float *final, float *kept) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        vec *h = room(TOGETHER * s->states);
        if (h)
            kernels()->forward(s, share(s, thread), share(s, thread + 1), h, y, final, kept);
        else
            failed = 1;
        free(h);
    }
    return failed;
}

/* d_dt (if per_head), dA, dD, and dB and dC (threads, tokens, states) start at zero and are added to.
 * d_final, dD and d_initial may be NULL. Returns as above. */
int scan_backward(const Scan *s, int64_t tokens, const float *dy, const float *d_final, const float *kept, float *du, float *d_dt,
                  float *dA, float *dB, float *dC, float *dD, float *d_initial) {
    int failed = 0;
#pragma omp parallel for num_threads(s->threads) schedule(static) reduction(| : failed)
    for (int64_t thread = 0; thread < s->threads; thread++) {
        const int64_t own = thread * tokens * s->states;
        const Gradients g = {dy, d_final, kept, du, d_dt, dA, dD, d_initial, dB + own, dC + own};
        vec *work = room(s->states * TOGETHER * (2 * SEGMENT + 2) + 2 * s->states);
        if (work)
            kernels()->backward(s, &g, share(s, thread), share(s, thread + 1), work);
        else
            failed = 1;
        free(work);
    }
    return failed;
}
