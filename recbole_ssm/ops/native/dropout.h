/* Dropout whose mask is a function of a seed and of the place, so that it is computed again instead of kept. */

/* y = x scale where the random number of the place is `least` or more, else 0. */
static void VARIANT(dropout)(int64_t from, int64_t to, const float *x, uint64_t seed, uint32_t least, float scale, float *y) {
    uvec lanes;
    for (int i = 0; i < LANES; i++) lanes[i] = i;
    for (int64_t i = from; i < to; i += LANES) {
        const int64_t width = SMALLER(to - i, LANES);
        uvec r = (lanes + (uint32_t)i) * 0x9e3779b9u + (uint32_t)seed; /* then Chris Wellons's lowbias32 */
        r = (r ^ (r >> 16)) * 0x7feb352du + (uint32_t)(seed >> 32);
        r = (r ^ (r >> 15)) * 0x846ca68bu;
        r ^= r >> 16;
        const ivec kept = (ivec)(r >= least);
        VARIANT(store)(y + i, (vec)((ivec)(VARIANT(load)(x + i, width) * scale) & kept), width);
    }
}
