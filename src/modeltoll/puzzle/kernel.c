/* Search kernels over SHA-256 (FIPS 180-4) for several instruction sets. native_kernels.py loads and selects them.
 *
 * A message is seed (16 bytes) || counter (8 bytes, big-endian): one block, of which only the counter changes. */

#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

typedef struct {
    const uint8_t *seed;
    uint32_t goal[8]; /* four words that must match, or eight that are the largest valid digest */
    uint64_t start, count;
} task;

static const uint32_t INITIAL[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};
static const uint32_t ROUND[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define ROTATE(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define LARGE0(x) (ROTATE(x, 2) ^ ROTATE(x, 13) ^ ROTATE(x, 22))
#define LARGE1(x) (ROTATE(x, 6) ^ ROTATE(x, 11) ^ ROTATE(x, 25))
#define SMALL0(x) (ROTATE(x, 7) ^ ROTATE(x, 18) ^ ((x) >> 3))
#define SMALL1(x) (ROTATE(x, 17) ^ ROTATE(x, 19) ^ ((x) >> 10))
#define CHOOSE(e, f, g) (((e) & (f)) ^ (~(e) & (g)))
#define MAJORITY(a, b, c) (((a) & (b)) | ((c) & ((a) | (b))))

static uint32_t word(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static inline void fill(uint32_t block[16], const uint8_t *seed, uint64_t counter)
{
    for (int i = 0; i < 4; i++) block[i] = word(seed + 4 * i);
    block[4] = (uint32_t)(counter >> 32);
    block[5] = (uint32_t)counter;
    block[6] = 0x80000000;
    for (int i = 7; i < 15; i++) block[i] = 0;
    block[15] = 24 * 8;
}

/* The whole digest of one counter: whether the counter is in range and the digest meets the goal. */
static int confirms(const task *job, uint64_t counter, int below)
{
    uint32_t w[16], s[8], digest[8];
    if (counter - job->start >= job->count) return 0;
    fill(w, job->seed, counter);
    memcpy(s, INITIAL, sizeof s);
    for (int t = 0; t < 64; t++) {
        if (t >= 16) w[t & 15] += SMALL1(w[(t - 2) & 15]) + w[(t - 7) & 15] + SMALL0(w[(t - 15) & 15]);
        uint32_t one = s[7] + LARGE1(s[4]) + CHOOSE(s[4], s[5], s[6]) + ROUND[t] + w[t & 15];
        uint32_t two = LARGE0(s[0]) + MAJORITY(s[0], s[1], s[2]);
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) digest[i] = INITIAL[i] + s[i];
    if (!below) return !memcmp(digest, job->goal, 4 * sizeof *digest);
    for (int i = 0; i < 8; i++)
        if (digest[i] != job->goal[i]) return digest[i] < job->goal[i];
    return 1;
}

#define LANES 4
#define NAME(suffix) plain_##suffix
#define TARGET
#include "kernel_lanes.h"
#undef LANES
#undef NAME
#undef TARGET

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define LANES 8
#define NAME(suffix) avx2_##suffix
#define TARGET __attribute__((target("avx2")))
#include "kernel_lanes.h"
#undef LANES
#undef NAME
#undef TARGET

#define LANES 16
#define NAME(suffix) avx512_##suffix
#define TARGET __attribute__((target("avx512f")))
#include "kernel_lanes.h"
#undef LANES
#undef NAME
#undef TARGET

/* Three messages at a time, because the latency of the instructions exceeds their throughput. */
#define STREAMS 3
__attribute__((target("sha,sse4.1"))) static int64_t shani_scan(const task *job, int below)
{
    for (uint64_t step = 0; step < job->count; step += STREAMS) {
        __m128i abef[STREAMS], cdgh[STREAMS], w[STREAMS][4];
        for (int i = 0; i < STREAMS; i++) {
            uint32_t block[16];
            fill(block, job->seed, job->start + step + i);
            for (int j = 0; j < 4; j++) w[i][j] = _mm_loadu_si128((const __m128i *)block + j);
            abef[i] = _mm_set_epi32(INITIAL[0], INITIAL[1], INITIAL[4], INITIAL[5]);
            cdgh[i] = _mm_set_epi32(INITIAL[2], INITIAL[3], INITIAL[6], INITIAL[7]);
        }
        UNROLL
        for (int r = 0; r < 16; r++) { /* four rounds */
            const __m128i constants = _mm_load_si128((const __m128i *)ROUND + r);
            for (int i = 0; i < STREAMS; i++) {
                __m128i *a = &w[i][r & 3], b = w[i][(r + 1) & 3], c = w[i][(r + 2) & 3], d = w[i][(r + 3) & 3];
                __m128i four = _mm_add_epi32(*a, constants);
                cdgh[i] = _mm_sha256rnds2_epu32(cdgh[i], abef[i], four);
                abef[i] = _mm_sha256rnds2_epu32(abef[i], cdgh[i], _mm_shuffle_epi32(four, 0x0e));
                *a = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(*a, b), _mm_alignr_epi8(d, c, 4)), d);
            }
        }
        for (int i = 0; i < STREAMS; i++) {
            const uint32_t first = INITIAL[0] + _mm_extract_epi32(abef[i], 3);
            const uint32_t fourth = INITIAL[3] + _mm_extract_epi32(cdgh[i], 2);
            if (below ? first > job->goal[0] : fourth != job->goal[3]) continue;
            if (confirms(job, job->start + step + i, below)) return (int64_t)(step + i);
        }
    }
    return -1;
}
#endif

/* The numbers of the kernels in native_kernels.py. */
enum { PLAIN, SHA_NI, AVX2, AVX512 };

/* To be incremented with each change of the functions below, and of those of argon2id_kernel.c. */
EXPORT int modeltoll_version(void) { return 2; }

/* Whether this processor and its operating system support a kernel. */
EXPORT int modeltoll_runs(int kernel)
{
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    switch (kernel) {
    case SHA_NI: return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) && __builtin_cpu_supports("sse4.1");
    case AVX2: return !!__builtin_cpu_supports("avx2");
    case AVX512: return !!__builtin_cpu_supports("avx512f");
    }
#endif
    return kernel == PLAIN;
}

/* The offset from `start` of the first of `count` counters that meets the goal, or -1. The goal is the first 16 bytes of
 * the digest or, if `below` is 1, the largest valid digest, 32 bytes. start + count <= 2^64. */
EXPORT int64_t modeltoll_scan(int kernel, int below, const uint8_t *seed, const uint8_t *goal, uint64_t start,
                              uint64_t count)
{
    task job = {.seed = seed, .start = start, .count = count};
    for (int i = 0; i < (below ? 8 : 4); i++) job.goal[i] = word(goal + 4 * i);
    switch (kernel) {
#if defined(__x86_64__)
    case SHA_NI: return shani_scan(&job, below);
    case AVX2: return avx2_scan(&job, below);
    case AVX512: return avx512_scan(&job, below);
#endif
    default: return plain_scan(&job, below);
    }
}
