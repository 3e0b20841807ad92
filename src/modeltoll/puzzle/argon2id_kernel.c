/* Argon2id (RFC 9106) with one pass and one lane, for several instruction sets. native_argon2id.py loads and selects them.
 *
 * The password is a counter (8 bytes, big-endian), the salt a seed (16 bytes), the tag 32 bytes; no secret, no
 * associated data. Up to WAYS counters are evaluated at once, each with memory of its own, so that one is computed while
 * the memory of another is fetched. */

#include <stdint.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian processors"
#endif

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))
#define BLOCK_BYTES 1024
#define BLOCK_WORDS 128
#define WAYS 2

enum { SEED_BYTES = 16, COUNTER_BYTES = 8, VALUE_BYTES = 32, CHECK_BYTES = 16, HASH_BYTES = 64, SLICES = 4 };
enum { PASSES = 1, LANES = 1, VERSION = 0x13, ARGON2ID = 2 };

typedef struct {
    uint64_t word[BLOCK_WORDS];
} block;

typedef struct {
    block *memory;
    block *previous;
    const block *reference; /* of the next block */
} lane;

/* --- BLAKE2b (RFC 7693), unkeyed --- */

static const uint64_t INITIAL[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};
static const uint8_t SIGMA[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

#define UNROLL_ROUNDS _Pragma("GCC unroll 12")
#define ROTATE(x, n) (((x) >> (n)) | ((x) << (64 - (n))))
#define MIX(a, b, c, d, x, y)                 \
    a += b + (x), d = ROTATE(d ^ a, 32);      \
    c += d, b = ROTATE(b ^ c, 24);            \
    a += b + (y), d = ROTATE(d ^ a, 16);      \
    c += d, b = ROTATE(b ^ c, 63)

static void compress(uint64_t state[8], const uint64_t message[16], uint64_t length, int last)
{
    uint64_t v[16];
    memcpy(v, state, 8 * sizeof *v);
    memcpy(v + 8, INITIAL, sizeof INITIAL);
    v[12] ^= length;
    if (last) v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = SIGMA[round];
        MIX(v[0], v[4], v[8], v[12], message[s[0]], message[s[1]]);
        MIX(v[1], v[5], v[9], v[13], message[s[2]], message[s[3]]);
        MIX(v[2], v[6], v[10], v[14], message[s[4]], message[s[5]]);
        MIX(v[3], v[7], v[11], v[15], message[s[6]], message[s[7]]);
        MIX(v[0], v[5], v[10], v[15], message[s[8]], message[s[9]]);
        MIX(v[1], v[6], v[11], v[12], message[s[10]], message[s[11]]);
        MIX(v[2], v[7], v[8], v[13], message[s[12]], message[s[13]]);
        MIX(v[3], v[4], v[9], v[14], message[s[14]], message[s[15]]);
    }
    for (int i = 0; i < 8; i++) state[i] ^= v[i] ^ v[i + 8];
}

/* The digest of `digest_bytes` (at most 64) of a message. */
static void blake2b(uint8_t *digest, size_t digest_bytes, const uint8_t *message, size_t length)
{
    uint64_t state[8], words[16];
    memcpy(state, INITIAL, sizeof state);
    state[0] ^= 0x01010000 ^ digest_bytes;
    size_t done = 0;
    while (length - done > sizeof words) {
        memcpy(words, message + done, sizeof words);
        done += sizeof words;
        compress(state, words, done, 0);
    }
    memset(words, 0, sizeof words);
    memcpy(words, message + done, length - done);
    compress(state, words, length, 1);
    memcpy(digest, state, digest_bytes);
}

/* --- what is the same for every instruction set --- */

INLINE uint8_t *put(uint8_t *target, uint32_t number)
{
    memcpy(target, &number, sizeof number);
    return target + sizeof number;
}

/* H0 of RFC 9106, 3.2. */
static void first_hash(uint8_t hash[HASH_BYTES], uint32_t memory_kib, const uint8_t *seed, uint64_t counter)
{
    uint8_t message[10 * sizeof(uint32_t) + COUNTER_BYTES + SEED_BYTES], *end = message;
    end = put(end, LANES);
    end = put(end, VALUE_BYTES);
    end = put(end, memory_kib);
    end = put(end, PASSES);
    end = put(end, VERSION);
    end = put(end, ARGON2ID);
    end = put(end, COUNTER_BYTES);
    for (int i = COUNTER_BYTES - 1; i >= 0; i--) *end++ = (uint8_t)(counter >> 8 * i);
    end = put(end, SEED_BYTES);
    memcpy(end, seed, SEED_BYTES);
    end = put(end + SEED_BYTES, 0);
    end = put(end, 0);
    blake2b(hash, HASH_BYTES, message, (size_t)(end - message));
}

/* H' of 32 bytes of the last block. */
static void last_hash(uint8_t value[VALUE_BYTES], const block *last)
{
    uint8_t message[sizeof(uint32_t) + BLOCK_BYTES];
    memcpy(put(message, VALUE_BYTES), last, BLOCK_BYTES);
    blake2b(value, VALUE_BYTES, message, sizeof message);
}

/* The number of the block that is mixed in, out of `area` earlier ones; RFC 9106, 3.4.2. */
INLINE uint64_t referenced(uint64_t random, uint64_t area)
{
    const uint64_t low = random & 0xffffffff;
    return area - 1 - (area * (low * low >> 32) >> 32);
}

INLINE void prefetch(const block *next)
{
    for (int i = 0; i < BLOCK_WORDS; i += 8) __builtin_prefetch(next->word + i);
}

/* --- one kernel for every instruction set --- */

#if defined(__x86_64__)
#include <immintrin.h>

#define NAME(suffix) plain_##suffix
#define TARGET
#define VEC __m128i
#define LOAD(at) _mm_loadu_si128((const __m128i *)(at))
#define STORE(at, x) _mm_storeu_si128((__m128i *)(at), x)
#define ADD _mm_add_epi64
#define EXOR _mm_xor_si128
#define MUL _mm_mul_epu32
#define ROR32(x) _mm_shuffle_epi32(x, 0xb1)
#define ROR24(x) _mm_xor_si128(_mm_srli_epi64(x, 24), _mm_slli_epi64(x, 40))
#define ROR16(x) _mm_shufflehi_epi16(_mm_shufflelo_epi16(x, 0x39), 0x39)
#define ROR63(x) _mm_xor_si128(_mm_srli_epi64(x, 63), _mm_add_epi64(x, x))
#define PAIR(high, low) _mm_castpd_si128(_mm_shuffle_pd(_mm_castsi128_pd(low), _mm_castsi128_pd(high), 1))
#include "argon2id_kernel.h"

#define NAME(suffix) avx2_##suffix
#define TARGET __attribute__((target("avx2")))
#define VEC __m256i
#define LOAD(at) _mm256_loadu_si256((const __m256i *)(at))
#define STORE(at, x) _mm256_storeu_si256((__m256i *)(at), x)
#define ADD _mm256_add_epi64
#define EXOR _mm256_xor_si256
#define MUL _mm256_mul_epu32
#define BYTES(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))
#define ROR32(x) _mm256_shuffle_epi32(x, 0xb1)
#define ROR24(x) _mm256_shuffle_epi8(x, BYTES(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10))
#define ROR16(x) _mm256_shuffle_epi8(x, BYTES(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9))
#define ROR63(x) _mm256_xor_si256(_mm256_srli_epi64(x, 63), _mm256_add_epi64(x, x))
#define PAIR(high, low) _mm256_alignr_epi8(high, low, 8)
#define QUAD VEC
#define QUADS 1
#define LOAD_QUADS(at, row) LOAD((at) + 16 * (row))
#define STORE_QUADS(at, row, x) STORE((at) + 16 * (row), x)
#define TURN(x, order) _mm256_permute4x64_epi64(x, order)
#include "argon2id_kernel.h"

#define NAME(suffix) avx512_##suffix
#define TARGET __attribute__((target("avx512f")))
#define VEC __m512i
#define LOAD(at) _mm512_loadu_si512(at)
#define STORE(at, x) _mm512_storeu_si512(at, x)
#define ADD _mm512_add_epi64
#define EXOR _mm512_xor_si512
#define MUL _mm512_mul_epu32
#define ROR32(x) _mm512_ror_epi64(x, 32)
#define ROR24(x) _mm512_ror_epi64(x, 24)
#define ROR16(x) _mm512_ror_epi64(x, 16)
#define ROR63(x) _mm512_ror_epi64(x, 63)
#define PAIR(high, low) _mm512_castpd_si512(_mm512_shuffle_pd(_mm512_castsi512_pd(low), _mm512_castsi512_pd(high), 0x55))
#define QUAD VEC
#define QUADS 2
#define HALF(at) _mm256_loadu_si256((const __m256i *)(at))
#define LOAD_QUADS(at, row) \
    _mm512_inserti64x4(_mm512_castsi256_si512(HALF((at) + 16 * (row))), HALF((at) + 16 * (row) + 16), 1)
#define STORE_QUADS(at, row, x)                                                             \
    _mm256_storeu_si256((__m256i *)((at) + 16 * (row)), _mm512_castsi512_si256(x));         \
    _mm256_storeu_si256((__m256i *)((at) + 16 * (row) + 16), _mm512_extracti64x4_epi64(x, 1))
#define TURN(x, order) _mm512_permutex_epi64(x, order)
#include "argon2id_kernel.h"

#elif defined(__aarch64__)
#include <arm_neon.h>

#define NAME(suffix) plain_##suffix
#define TARGET
#define VEC uint64x2_t
#define LOAD(at) vld1q_u64(at)
#define STORE(at, x) vst1q_u64(at, x)
#define ADD vaddq_u64
#define EXOR veorq_u64
#define MUL(x, y) vmull_u32(vmovn_u64(x), vmovn_u64(y))
#define ROR32(x) vreinterpretq_u64_u32(vrev64q_u32(vreinterpretq_u32_u64(x)))
#define ROR(x, n) vsriq_n_u64(vshlq_n_u64(x, 64 - (n)), x, n)
#define ROR24(x) ROR(x, 24)
#define ROR16(x) ROR(x, 16)
#define ROR63(x) ROR(x, 63)
#define PAIR(high, low) vextq_u64(low, high, 1)
#include "argon2id_kernel.h"

#else

typedef uint64_t pair __attribute__((vector_size(16)));
INLINE pair load_pair(const uint64_t *at) { return (pair){at[0], at[1]}; }
INLINE void store_pair(uint64_t *at, pair x) { at[0] = x[0], at[1] = x[1]; }
#define NAME(suffix) plain_##suffix
#define TARGET
#define VEC pair
#define LOAD(at) load_pair(at)
#define STORE(at, x) store_pair(at, x)
#define ADD(x, y) ((x) + (y))
#define EXOR(x, y) ((x) ^ (y))
#define MUL(x, y) (((x) & 0xffffffff) * ((y) & 0xffffffff))
#define ROR32(x) ROTATE(x, 32)
#define ROR24(x) ROTATE(x, 24)
#define ROR16(x) ROTATE(x, 16)
#define ROR63(x) ROTATE(x, 63)
#define PAIR(high, low) ((pair){(low)[1], (high)[0]})
#include "argon2id_kernel.h"

#endif

/* The numbers of the kernels in native_argon2id.py. */
enum { PLAIN, AVX2, AVX512 };

/* Whether this processor and its operating system support a kernel. */
EXPORT int modeltoll_argon2id_runs(int kernel)
{
#if defined(__x86_64__)
    switch (kernel) {
    case AVX2: return !!__builtin_cpu_supports("avx2");
    case AVX512: return !!__builtin_cpu_supports("avx512f");
    }
#endif
    return kernel == PLAIN;
}

/* The offset from `start` of the first of `count` counters whose value begins with `check` (16 bytes), or -1; `value`
 * (32 bytes) is that of the last counter that was tried. A null `check` fits the first. `memory_kib` is at least 8;
 * `memory` holds `ways` (1 or 2) times `memory_kib` KiB. */
EXPORT int64_t modeltoll_argon2id_scan(int kernel, int ways, void *memory, uint32_t memory_kib, const uint8_t *seed,
                                       const uint8_t *check, uint64_t start, uint64_t count, uint8_t *value)
{
    for (uint64_t done = 0; done < count;) {
        uint8_t values[WAYS][VALUE_BYTES];
        const int now = ways > 1 && count - done > 1 ? 2 : 1;
        switch (kernel) {
#if defined(__x86_64__)
        case AVX2: avx2_evaluate(now, memory, memory_kib, seed, start + done, values); break;
        case AVX512: avx512_evaluate(now, memory, memory_kib, seed, start + done, values); break;
#endif
        default: plain_evaluate(now, memory, memory_kib, seed, start + done, values);
        }
        for (int i = 0; i < now; i++, done++) {
            memcpy(value, values[i], VALUE_BYTES);
            if (!check || !memcmp(value, check, CHECK_BYTES)) return (int64_t)done;
        }
    }
    return -1;
}
