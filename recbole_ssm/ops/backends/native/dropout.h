/* Dropout whose mask is a function of a seed and of the place, so that it is computed again instead of kept. */

/* Whether the random numbers of LANES places, from this one on, are `least` or more. */
INLINE ivec VARIANT(kept)(int64_t place, uint64_t seed, uint32_t least) {
    uvec lanes;
    for (int i = 0; i < LANES; i++) lanes[i] = i;
    uvec r = (lanes + (uint32_t)place) * 0x9e3779b9u + (uint32_t)seed; /* then Chris Wellons's lowbias32 */
    r = (r ^ (r >> 16)) * 0x7feb352du + (uint32_t)(seed >> 32);
    r = (r ^ (r >> 15)) * 0x846ca68bu;
    r ^= r >> 16;
    return (ivec)(r >= least);
}

/* y = x scale where a place is kept, else 0. */
static void VARIANT(dropout)(int64_t from, int64_t to, const float *x, uint64_t seed, uint32_t least, float scale, float *y) {
    for (int64_t i = from; i < to; i += LANES) {
        const int64_t width = SMALLER(to - i, LANES);
        VARIANT(store)(y + i, (vec)((ivec)(VARIANT(load)(x + i, width) * scale) & VARIANT(kept)(i, seed, least)), width);
    }
}
