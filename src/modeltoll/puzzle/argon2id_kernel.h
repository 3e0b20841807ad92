/* Argon2id's memory, filled with one instruction set. Included once for each, with these macros:
 * NAME(suffix); TARGET, the function attribute that allows the instructions; VEC, a vector of words of 64 bits; LOAD, STORE,
 * ADD, EXOR; MUL of the low halves of words; ROR32, ROR24, ROR16, ROR63; PAIR(high, low), the upper word of `low` and the
 * lower word of `high`, in each 128 bits. And where a vector holds four words or more: QUADS, the rows that one holds four
 * words of; LOAD_QUADS, STORE_QUADS; TURN(x, order), the words in each 256 bits in another order. */

#define MIX_PAIR(a, b) ADD(ADD(a, b), ADD(MUL(a, b), MUL(a, b)))
#define MIX_VECTORS(a, b, c, d) \
    a = MIX_PAIR(a, b);         \
    d = EXOR(d, a);             \
    d = ROR32(d);               \
    c = MIX_PAIR(c, d);         \
    b = EXOR(b, c);             \
    b = ROR24(b);               \
    a = MIX_PAIR(a, b);         \
    d = EXOR(d, a);             \
    d = ROR16(d);               \
    c = MIX_PAIR(c, d);         \
    b = EXOR(b, c);             \
    b = ROR63(b)

/* The permutation P of RFC 9106, 3.6, whose sixteen words are two in each of eight vectors. */
TARGET INLINE void NAME(permute_pairs)(VEC v[8])
{
    VEC t;
    MIX_VECTORS(v[0], v[2], v[4], v[6]);
    MIX_VECTORS(v[1], v[3], v[5], v[7]);
    t = PAIR(v[3], v[2]), v[3] = PAIR(v[2], v[3]), v[2] = t;
    t = v[4], v[4] = v[5], v[5] = t;
    t = PAIR(v[6], v[7]), v[7] = PAIR(v[7], v[6]), v[6] = t;
    MIX_VECTORS(v[0], v[2], v[4], v[6]);
    MIX_VECTORS(v[1], v[3], v[5], v[7]);
    t = PAIR(v[2], v[3]), v[3] = PAIR(v[3], v[2]), v[2] = t;
    t = v[4], v[4] = v[5], v[5] = t;
    t = PAIR(v[7], v[6]), v[7] = PAIR(v[6], v[7]), v[6] = t;
}

/* Each row of sixteen words of previous ^ reference, permuted. */
TARGET INLINE void NAME(permute_rows)(uint64_t *z, const uint64_t *previous, const uint64_t *reference)
{
#ifdef QUADS
    for (int row = 0; row < 8; row += QUADS) {
        QUAD v[4];
        for (int i = 0; i < 4; i++) v[i] = EXOR(LOAD_QUADS(previous + 4 * i, row), LOAD_QUADS(reference + 4 * i, row));
        MIX_VECTORS(v[0], v[1], v[2], v[3]);
        v[1] = TURN(v[1], 0x39), v[2] = TURN(v[2], 0x4e), v[3] = TURN(v[3], 0x93);
        MIX_VECTORS(v[0], v[1], v[2], v[3]);
        v[1] = TURN(v[1], 0x93), v[2] = TURN(v[2], 0x4e), v[3] = TURN(v[3], 0x39);
        for (int i = 0; i < 4; i++) {
            STORE_QUADS(z + 4 * i, row, v[i]);
        }
    }
#else
    for (int row = 0; row < BLOCK_WORDS; row += 16) {
        VEC v[8];
        for (int i = 0; i < 8; i++) v[i] = EXOR(LOAD(previous + row + 2 * i), LOAD(reference + row + 2 * i));
        NAME(permute_pairs)(v);
        for (int i = 0; i < 8; i++) STORE(z + row + 2 * i, v[i]);
    }
#endif
}

/* G of RFC 9106, 3.5. `target` may be `previous` or `reference`. If `memory` is given, `area` of its blocks are written
 * before the next one, whose reference follows from the first word: it is fetched while the rest is computed. */
TARGET static void NAME(fill)(block *target, const block *previous, const block *reference, const block *memory,
                              uint64_t area)
{
    uint64_t z[BLOCK_WORDS] __attribute__((aligned(64)));
    NAME(permute_rows)(z, previous->word, reference->word);
    for (size_t column = 0; column < 16; column += sizeof(VEC) / sizeof *z) {
        VEC v[8];
        for (int i = 0; i < 8; i++) v[i] = LOAD(z + column + 16 * i);
        NAME(permute_pairs)(v);
        for (int i = 0; i < 8; i++) {
            const size_t at = column + 16 * i;
            STORE(target->word + at, EXOR(v[i], EXOR(LOAD(previous->word + at), LOAD(reference->word + at))));
        }
        if (column == 0 && memory) prefetch(memory + referenced(target->word[0], area));
    }
}

/* The next 128 addresses of the first two slices, which do not depend on the counter. */
TARGET static void NAME(next_addresses)(block *addresses, block *input)
{
    static const block zero;
    input->word[6]++;
    NAME(fill)(addresses, &zero, input, 0, 0);
    NAME(fill)(addresses, &zero, addresses, 0, 0);
}

TARGET INLINE VEC NAME(same)(uint64_t word)
{
    uint64_t words[sizeof(VEC) / sizeof word];
    for (size_t i = 0; i < sizeof(VEC) / sizeof word; i++) words[i] = word;
    return LOAD(words);
}

#define MIX_MESSAGES(a, b, c, d, x, y)                                \
    a = ADD(ADD(a, b), x), d = EXOR(d, a), d = ROR32(d);              \
    c = ADD(c, d), b = EXOR(b, c), b = ROR24(b);                      \
    a = ADD(ADD(a, b), y), d = EXOR(d, a), d = ROR16(d);              \
    c = ADD(c, d), b = EXOR(b, c), b = ROR63(b)

/* BLAKE2b with 64 bytes of several messages of one piece at once: one in each word of the vectors. */
TARGET static void NAME(digest)(VEC state[8], const VEC m[16], uint64_t length)
{
    VEC v[16];
    for (int i = 0; i < 8; i++) {
        state[i] = v[i] = NAME(same)(i ? INITIAL[i] : INITIAL[0] ^ 0x01010000 ^ HASH_BYTES);
        v[i + 8] = NAME(same)(i == 4 ? INITIAL[i] ^ length : i == 6 ? ~INITIAL[i] : INITIAL[i]);
    }
    UNROLL_ROUNDS
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = SIGMA[round];
        MIX_MESSAGES(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
        MIX_MESSAGES(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
        MIX_MESSAGES(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
        MIX_MESSAGES(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
        MIX_MESSAGES(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
        MIX_MESSAGES(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
        MIX_MESSAGES(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
        MIX_MESSAGES(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++) state[i] = EXOR(state[i], EXOR(v[i], v[i + 8]));
}

/* The first two blocks of each memory: H' of 1024 bytes of RFC 9106, 3.3, of as many at once as a vector has words. */
TARGET static void NAME(first_blocks)(int ways, block *const of[WAYS], const uint64_t hash[WAYS][HASH_BYTES / 8])
{
    enum { WORDS = sizeof(VEC) / sizeof(uint64_t) };
    for (int first = 0; first < 2 * ways; first += WORDS) {
        uint64_t lines[16][WORDS] __attribute__((aligned(64)));
        VEC m[16], state[8];
        memset(lines, 0, sizeof lines);
        for (int i = 0; i < WORDS; i++) {
            const int number = first + i < 2 * ways ? first + i : first; /* words to spare repeat the first */
            uint64_t message[16] = {0};
            uint8_t *end = put((uint8_t *)message, BLOCK_BYTES);
            memcpy(end, hash[number / 2], HASH_BYTES);
            put(end + HASH_BYTES, number % 2);
            for (int j = 0; j < 16; j++) lines[j][i] = message[j];
        }
        for (int j = 0; j < 16; j++) m[j] = LOAD(lines[j]);
        NAME(digest)(state, m, HASH_BYTES + 3 * sizeof(uint32_t));
        for (int at = 0;; at += 4) { /* in words of the block */
            const int wanted = at < BLOCK_WORDS - 8 ? 4 : 8;
            for (int j = 0; j < wanted; j++) STORE(lines[j], state[j]);
            for (int i = 0; i < WORDS && first + i < 2 * ways; i++)
                for (int j = 0; j < wanted; j++) of[(first + i) / 2][(first + i) % 2].word[at + j] = lines[j][i];
            if (wanted == 8) break;
            for (int j = 0; j < 8; j++) m[j] = state[j], m[j + 8] = NAME(same)(0);
            NAME(digest)(state, m, HASH_BYTES);
        }
    }
}

TARGET static void NAME(evaluate)(int ways, block *memory, uint32_t memory_kib, const uint8_t *seed, uint64_t counter,
                                  uint8_t values[WAYS][VALUE_BYTES])
{
    const uint32_t segment = memory_kib / SLICES, blocks = segment * SLICES;
    block *of[WAYS];
    uint64_t hash[WAYS][HASH_BYTES / 8];
    for (int way = 0; way < ways; way++) {
        of[way] = memory + (size_t)way * memory_kib;
        first_hash((uint8_t *)hash[way], memory_kib, seed, counter + way);
    }
    NAME(first_blocks)(ways, of, hash);
    block addresses, input;
    memset(&input, 0, sizeof input);
    input.word[3] = blocks, input.word[4] = PASSES, input.word[5] = ARGON2ID;
    for (uint32_t i = 2; i < blocks / 2; i++) {
        const uint32_t place = i % segment;
        if (place == 0) input.word[2] = 1, input.word[6] = 0;
        if (place % BLOCK_WORDS == 0 || i == 2) NAME(next_addresses)(&addresses, &input);
        const uint64_t reference = referenced(addresses.word[place % BLOCK_WORDS], i - 1);
        for (int way = 0; way < ways; way++) {
            prefetch(of[way] + reference);
            NAME(fill)(of[way] + i, of[way] + i - 1, of[way] + reference, 0, 0);
        }
    }
    for (uint32_t i = blocks / 2; i < blocks; i++)
        for (int way = 0; way < ways; way++) {
            const uint64_t reference = referenced(of[way][i - 1].word[0], i - 1);
            NAME(fill)(of[way] + i, of[way] + i - 1, of[way] + reference, of[way], i);
        }
    for (int way = 0; way < ways; way++) last_hash(values[way], of[way] + blocks - 1);
}

#undef MIX_PAIR
#undef MIX_VECTORS
#undef MIX_MESSAGES
#undef NAME
#undef TARGET
#undef VEC
#undef LOAD
#undef STORE
#undef ADD
#undef EXOR
#undef MUL
#undef BYTES
#undef ROR
#undef ROR32
#undef ROR24
#undef ROR16
#undef ROR63
#undef PAIR
#undef QUAD
#undef QUADS
#undef HALF
#undef LOAD_QUADS
#undef STORE_QUADS
#undef TURN
