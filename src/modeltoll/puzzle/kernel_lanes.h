/* The search over SHA-256, LANES counters at a time. Included once for every width, with these macros:
 * LANES (a power of two), NAME(suffix) and TARGET, the function attribute that allows the instructions. */

typedef uint32_t NAME(words) __attribute__((vector_size(4 * LANES)));

/* One word of the state after `rounds` rounds: after 61 what ends as the fourth word, after 64 the first. */
TARGET static inline __attribute__((always_inline)) NAME(words)
NAME(state)(const uint32_t block[16], NAME(words) low, int rounds)
{
    NAME(words) w[16], s[8];
    for (int i = 0; i < 16; i++) w[i] = block[i] - (NAME(words)){0};
    for (int i = 0; i < 8; i++) s[i] = INITIAL[i] - (NAME(words)){0};
    w[5] = low;
    UNROLL
    for (int t = 0; t < rounds; t++) {
        if (t >= 16) w[t & 15] += SMALL1(w[(t - 2) & 15]) + w[(t - 7) & 15] + SMALL0(w[(t - 15) & 15]);
#define S(i) s[((i) - t) & 7]
        NAME(words) one = S(7) + LARGE1(S(4)) + CHOOSE(S(4), S(5), S(6)) + ROUND[t] + w[t & 15];
        S(3) += one;
        S(7) = one + LARGE0(S(0)) + MAJORITY(S(0), S(1), S(2));
#undef S
    }
    return s[(8 - (rounds & 7)) & 7];
}

TARGET static int64_t NAME(scan)(const task *job, int below)
{
    uint32_t block[16];
    NAME(words) steps;
    for (int i = 0; i < LANES; i++) steps[i] = i;
    const uint64_t early = job->start % LANES; /* so that only the low word differs between lanes */
    for (uint64_t step = 0; step < early + job->count; step += LANES) {
        const uint64_t base = job->start - early + step;
        union { NAME(words) lanes; uint64_t pairs[LANES / 2]; } hit;
        fill(block, job->seed, base);
        NAME(words) low = (uint32_t)base + steps;
        if (below) hit.lanes = (NAME(words))(INITIAL[0] + NAME(state)(block, low, 64) <= job->goal[0]);
        else hit.lanes = (NAME(words))(INITIAL[3] + NAME(state)(block, low, 61) == job->goal[3]);
        uint64_t any = 0;
        for (int i = 0; i < LANES / 2; i++) any |= hit.pairs[i];
        if (!any) continue;
        for (int i = 0; i < LANES; i++)
            if (hit.lanes[i] && confirms(job, base + i, below)) return (int64_t)(base + i - job->start);
    }
    return -1;
}
