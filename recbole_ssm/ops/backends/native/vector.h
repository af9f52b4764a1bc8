/* Vectors of LANES channels: the compiler's own (GCC, Clang), as wide as the machine has them. VARIANT(name) is the name of
 * a function for the kind of machine that library.c includes this file for. */

#define vec VARIANT(floats)
#define ivec VARIANT(integers)
#define uvec VARIANT(naturals)
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));

INLINE vec VARIANT(load)(const float *from, int64_t width) {
    vec v = {0};
    if (width == LANES)
        memcpy(&v, from, sizeof v);
    else
        memcpy(&v, from, width * sizeof(float));
    return v;
}

INLINE void VARIANT(store)(float *to, vec v, int64_t width) {
    if (width == LANES)
        memcpy(to, &v, sizeof v);
    else
        memcpy(to, &v, width * sizeof(float));
}

INLINE float VARIANT(sum_of)(vec v) {
    float lanes[LANES];
    memcpy(lanes, &v, sizeof v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

/* Sums of neighbouring lanes: those of a, then those of b. */
INLINE vec VARIANT(pair_sums)(vec a, vec b) {
#if LANES == 16
    return SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif LANES == 8
    return SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14) + SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
    return SHUFFLE(a, b, 0, 2, 4, 6) + SHUFFLE(a, b, 1, 3, 5, 7);
#endif
}

/* The sums over the lanes of each of LANES vectors. */
INLINE vec VARIANT(sums_of)(const vec *from) {
    vec v[LANES];
    FOR_LANES(i) v[i] = from[i];
    for (int many = LANES / 2; many; many /= 2)
        for (int i = 0; i < many; i++) v[i] = VARIANT(pair_sums)(v[2 * i], v[2 * i + 1]);
    return v[0];
}

/* sums[n] += the sum over the lanes of from[n], for N of them. */
INLINE void VARIANT(add_sums)(float *sums, const vec *from, int64_t N) {
    int64_t n = 0;
    for (; n + LANES <= N; n += LANES)
        VARIANT(store)(sums + n, VARIANT(load)(sums + n, LANES) + VARIANT(sums_of)(from + n), LANES);
    for (; n < N; n++) sums[n] += VARIANT(sum_of)(from[n]);
}

INLINE vec VARIANT(at_least)(vec x, float least) {
    const ivec low = x < least;
    return (vec)(((ivec)(x * 0.0f + least) & low) | ((ivec)x & ~low));
}

/* exp of x <= 88, to 1e-7. Below -87 it is exp(-87), 1e-38. */
INLINE vec VARIANT(exp)(vec x) {
    const float rounder = 12582912.0f; /* 1.5 2^23: adding it leaves the nearest integer in the low bits */
    x = VARIANT(at_least)(x, -87.0f);
    const vec shifted = x * 1.44269504088896341f + rounder, whole = shifted - rounder;
    const vec rest = (x - whole * 0.693145751953125f) - whole * 1.42860682030941723212e-6f;
    vec p = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * (rest * rest) + (rest + 1.0f);
    return p * (vec)(((ivec)shifted + 127) << 23);
}
