/**
 * Argon2id (RFC 9106) for WebAssembly with SIMD: version 1.3, one pass, one lane, a password of 8 bytes, 32 bytes out.
 *
 * One pass writes every block before it reads it, so all evaluations can share one memory.
 */

const PASSES: u32 = 1;
const LANES: u32 = 1;
const VERSION: u32 = 0x13;
const TYPE: u32 = 2;
const TAG: u32 = 32;
const BLOCK: u32 = 1024;
const SLICES: u32 = 4;

const IV = memory.data<u64>([
  0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
  0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
]);
const SIGMA = memory.data<u8>([
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
  14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3,
  11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4,
  7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8,
  9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13,
  2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9,
  12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11,
  13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10,
  6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5,
  10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0,
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
  14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3,
]);

const STATE = memory.data(64, 16); // of BLAKE2b
const WORK = memory.data(128, 16);
const LAST = memory.data(128, 16);
const PARAMETERS = memory.data(64, 16);
const START = memory.data(76, 16); // length, H0, column, lane
const ZERO = memory.data(1024, 16);
const INPUT = memory.data(1024, 16);
const ADDRESSES = memory.data(1024, 16);
const MIXED = memory.data(1024, 16);

/** The address of the salt (16 bytes), which the caller writes. */
export const SALT: usize = memory.data(16, 16);
/** The address of the result (32 bytes). */
export const OUT: usize = memory.data(32, 16);
/** The address of the blocks. The memory must have at least `BLOCKS` + 1024 `memory_kib` bytes. */
export const BLOCKS: usize = 65536;

// @ts-ignore: decorator
@inline
function g(a: usize, b: usize, c: usize, d: usize, x: u64, y: u64): void {
  let va = load<u64>(WORK + a) + load<u64>(WORK + b) + x;
  let vd = rotr(load<u64>(WORK + d) ^ va, 32);
  let vc = load<u64>(WORK + c) + vd;
  let vb = rotr(load<u64>(WORK + b) ^ vc, 24);
  va += vb + y;
  vd = rotr(vd ^ va, 16);
  vc += vd;
  vb = rotr(vb ^ vc, 63);
  store<u64>(WORK + a, va);
  store<u64>(WORK + b, vb);
  store<u64>(WORK + c, vc);
  store<u64>(WORK + d, vd);
}

/** BLAKE2b's compression (RFC 7693) of 128 bytes, `length` of the message so far; `last` is all ones at its end. */
function compress(message: usize, length: u64, last: u64): void {
  memory.copy(WORK, STATE, 64);
  memory.copy(WORK + 64, IV, 64);
  store<u64>(WORK + 96, load<u64>(WORK + 96) ^ length);
  store<u64>(WORK + 112, load<u64>(WORK + 112) ^ last);
  for (let s: usize = SIGMA; s < SIGMA + 192; s += 16) {
    g(0, 32, 64, 96, word(message, s), word(message, s + 1));
    g(8, 40, 72, 104, word(message, s + 2), word(message, s + 3));
    g(16, 48, 80, 112, word(message, s + 4), word(message, s + 5));
    g(24, 56, 88, 120, word(message, s + 6), word(message, s + 7));
    g(0, 40, 80, 120, word(message, s + 8), word(message, s + 9));
    g(8, 48, 88, 96, word(message, s + 10), word(message, s + 11));
    g(16, 56, 64, 104, word(message, s + 12), word(message, s + 13));
    g(24, 32, 72, 112, word(message, s + 14), word(message, s + 15));
  }
  for (let i: usize = 0; i < 64; i += 8) {
    store<u64>(STATE + i, load<u64>(STATE + i) ^ load<u64>(WORK + i) ^ load<u64>(WORK + 64 + i));
  }
}

// @ts-ignore: decorator
@inline
function word(message: usize, sigma: usize): u64 {
  return load<u64>(message + (<usize>load<u8>(sigma) << 3));
}

/** BLAKE2b of `length` bytes, `size` bytes out. */
function blake2b(out: usize, size: u32, input: usize, length: u32): void {
  memory.copy(STATE, IV, 64);
  store<u64>(STATE, load<u64>(STATE) ^ 0x01010000 ^ size);
  let done: u32 = 0;
  for (; length - done > 128; done += 128) compress(input + done, done + 128, 0);
  memory.fill(LAST, 0, 128);
  memory.copy(LAST, input + done, length - done);
  compress(LAST, length, ~0);
  memory.copy(out, STATE, size);
}

/** H' (RFC 9106, section 3.3) of 72 bytes, 1024 bytes out: the first 32 bytes of each BLAKE2b in a chain, and the last. */
function stretch(block: usize, column: u32): void {
  store<u32>(START, BLOCK);
  store<u32>(START + 68, column);
  store<u32>(START + 72, 0);
  blake2b(block, 64, START, 76);
  for (let at: usize = block + 32; at <= block + BLOCK - 64; at += 32) blake2b(at, 64, at - 32, 64);
}

// @ts-ignore: decorator
@inline
function add(x: v128, y: v128): v128 {
  const low = i64x2.extmul_low_i32x4_u(v128.shuffle<u32>(x, x, 0, 2, 0, 2), v128.shuffle<u32>(y, y, 0, 2, 0, 2));
  return i64x2.add(i64x2.add(x, y), i64x2.add(low, low));
}

// @ts-ignore: decorator
@inline
function rotr32(x: v128): v128 {
  return v128.shuffle<u32>(x, x, 1, 0, 3, 2);
}

// @ts-ignore: decorator
@inline
function rotr24(x: v128): v128 {
  return v128.shuffle<u8>(x, x, 3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10);
}

// @ts-ignore: decorator
@inline
function rotr16(x: v128): v128 {
  return v128.shuffle<u8>(x, x, 2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9);
}

// @ts-ignore: decorator
@inline
function rotr63(x: v128): v128 {
  return v128.xor(i64x2.add(x, x), i64x2.shr_u(x, 63));
}

/** The permutation P (RFC 9106, section 3.6) of the eight pairs of words that begin at `at`, `stride` bytes apart. */
// @ts-ignore: decorator
@inline
function permute(at: usize, stride: usize): void {
  let a0 = v128.load(at), a1 = v128.load(at + stride);
  let b0 = v128.load(at + 2 * stride), b1 = v128.load(at + 3 * stride);
  let c0 = v128.load(at + 4 * stride), c1 = v128.load(at + 5 * stride);
  let d0 = v128.load(at + 6 * stride), d1 = v128.load(at + 7 * stride);
  for (let half = 0; half < 2; half++) {
    a0 = add(a0, b0), a1 = add(a1, b1);
    d0 = rotr32(v128.xor(d0, a0)), d1 = rotr32(v128.xor(d1, a1));
    c0 = add(c0, d0), c1 = add(c1, d1);
    b0 = rotr24(v128.xor(b0, c0)), b1 = rotr24(v128.xor(b1, c1));
    a0 = add(a0, b0), a1 = add(a1, b1);
    d0 = rotr16(v128.xor(d0, a0)), d1 = rotr16(v128.xor(d1, a1));
    c0 = add(c0, d0), c1 = add(c1, d1);
    b0 = rotr63(v128.xor(b0, c0)), b1 = rotr63(v128.xor(b1, c1));
    // Each half ends by rotating the rows of words: by one to form the diagonals, by three to form the columns again.
    const c = c0, x = v128.shuffle<u64>(b0, b1, 1, 2), y = v128.shuffle<u64>(b1, b0, 1, 2);
    const v = v128.shuffle<u64>(d0, d1, 1, 2), w = v128.shuffle<u64>(d1, d0, 1, 2);
    c0 = c1, c1 = c;
    if (half) b0 = y, b1 = x, d0 = v, d1 = w;
    else b0 = x, b1 = y, d0 = w, d1 = v;
  }
  v128.store(at, a0), v128.store(at + stride, a1);
  v128.store(at + 2 * stride, b0), v128.store(at + 3 * stride, b1);
  v128.store(at + 4 * stride, c0), v128.store(at + 5 * stride, c1);
  v128.store(at + 6 * stride, d0), v128.store(at + 7 * stride, d1);
}

/** The compression G (RFC 9106, section 3.5) of two blocks into a third. */
function mix(block: usize, x: usize, y: usize): void {
  for (let at: usize = 0; at < BLOCK; at += 16) v128.store(MIXED + at, v128.xor(v128.load(x + at), v128.load(y + at)));
  for (let row: usize = 0; row < BLOCK; row += 128) permute(MIXED + row, 16);
  for (let column: usize = 0; column < 128; column += 16) permute(MIXED + column, 128);
  for (let at: usize = 0; at < BLOCK; at += 16) {
    v128.store(block + at, v128.xor(v128.load(MIXED + at), v128.xor(v128.load(x + at), v128.load(y + at))));
  }
}

/** The next 128 pseudo-random values that do not depend on the password (RFC 9106, section 3.4.1.2). */
function address(slice: u32, columns: u32, count: u64): void {
  store<u64>(INPUT + 16, slice);
  store<u64>(INPUT + 24, columns);
  store<u64>(INPUT + 32, PASSES);
  store<u64>(INPUT + 40, TYPE);
  store<u64>(INPUT + 48, count);
  mix(ADDRESSES, ZERO, INPUT);
  mix(ADDRESSES, ZERO, ADDRESSES);
}

/** One quarter of the lane; the first half of the lane takes its references from addresses, the rest from its blocks. */
function fill(slice: u32, length: u32): void {
  const independent = slice < SLICES / 2;
  const first: u32 = slice ? 0 : 2;
  if (independent && first) address(slice, SLICES * length, 1);
  for (let index = first; index < length; index++) {
    if (independent && index % 128 == 0) address(slice, SLICES * length, index / 128 + 1);
    const column = slice * length + index;
    const block = BLOCKS + <usize>column * BLOCK;
    const random = load<u32>(independent ? ADDRESSES + (<usize>(index % 128) << 3) : block - BLOCK);
    const area: u64 = column - 1;
    const near = (area * ((<u64>random * <u64>random) >> 32)) >> 32;
    mix(block, block - BLOCK, BLOCKS + <usize>(area - 1 - near) * BLOCK);
  }
}

/** Argon2id of the counter hi * 2^32 + lo (8 bytes, big-endian) and the salt, in `memory_kib`; see `SALT`, `OUT`. */
export function evaluate(memory_kib: u32, hi: u32, lo: u32): void {
  store<u32>(PARAMETERS, LANES);
  store<u32>(PARAMETERS + 4, TAG);
  store<u32>(PARAMETERS + 8, memory_kib);
  store<u32>(PARAMETERS + 12, PASSES);
  store<u32>(PARAMETERS + 16, VERSION);
  store<u32>(PARAMETERS + 20, TYPE);
  store<u32>(PARAMETERS + 24, 8); // bytes of password
  store<u32>(PARAMETERS + 28, bswap(hi));
  store<u32>(PARAMETERS + 32, bswap(lo));
  store<u32>(PARAMETERS + 36, 16); // bytes of salt; the lengths of key and associated data stay 0
  memory.copy(PARAMETERS + 40, SALT, 16);
  blake2b(START + 4, 64, PARAMETERS, 64);
  const length = memory_kib / SLICES;
  stretch(BLOCKS, 0);
  stretch(BLOCKS + BLOCK, 1);
  for (let slice: u32 = 0; slice < SLICES; slice++) fill(slice, length);
  const end = BLOCKS + <usize>(SLICES * length - 1) * BLOCK;
  store<u32>(end - 4, TAG); // the block before is no longer needed
  blake2b(OUT, TAG, end - 4, BLOCK + 4);
}
