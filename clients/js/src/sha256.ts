/**
 * SHA-256 (FIPS 180-4) of seed || counter, many times: one block whose first four words stay the same.
 *
 * Plain JavaScript: it needs no WebAssembly, and for 24 bytes a call into WebAssembly costs more than it saves.
 */

const K = Int32Array.from({ length: 64 }, (_, round) => fraction(Math.cbrt, prime(round)));
const INITIAL = Int32Array.from({ length: 8 }, (_, word) => fraction(Math.sqrt, prime(word)));
const BITS = 24 * 8;

function prime(index: number): number {
  const primes: number[] = [];
  for (let candidate = 2; primes.length <= index; candidate++) {
    if (primes.every((divisor) => candidate % divisor !== 0)) primes.push(candidate);
  }
  return primes[index]!;
}

/** The first 32 bits of the fractional part of a root. */
function fraction(root: (value: number) => number, value: number): number {
  return ((root(value) % 1) * 2 ** 32) | 0;
}

/** Digests of seed || counter: `digest(hi, lo)` writes the digest's eight 32-bit words into `words`. */
export class Sha256 {
  readonly words = new Int32Array(8);
  private readonly schedule = new Int32Array(64);

  constructor(seed: Uint8Array) {
    const view = new DataView(seed.buffer, seed.byteOffset);
    for (let word = 0; word < 4; word++) this.schedule[word] = view.getInt32(4 * word);
    this.schedule[6] = 0x80000000 | 0;
    this.schedule[15] = BITS;
  }

  /** The digest for the counter hi * 2^32 + lo; returns its first word. */
  digest(hi: number, lo: number): number {
    const w = this.schedule;
    w[4] = hi;
    w[5] = lo;
    for (let i = 16; i < 64; i++) {
      const x = w[i - 15]!;
      const y = w[i - 2]!;
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      w[i] = (w[i - 16]! + s0 + w[i - 7]! + s1) | 0;
    }
    return this.compress(w);
  }

  private compress(w: Int32Array): number {
    const out = this.words;
    let a = INITIAL[0]!;
    let b = INITIAL[1]!;
    let c = INITIAL[2]!;
    let d = INITIAL[3]!;
    let e = INITIAL[4]!;
    let f = INITIAL[5]!;
    let g = INITIAL[6]!;
    let h = INITIAL[7]!;
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const t1 = (h + s1 + (g ^ (e & (f ^ g))) + K[i]! + w[i]!) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const t2 = (s0 + ((a & b) ^ (c & (a ^ b)))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    out[0] = a + INITIAL[0]!;
    out[1] = b + INITIAL[1]!;
    out[2] = c + INITIAL[2]!;
    out[3] = d + INITIAL[3]!;
    out[4] = e + INITIAL[4]!;
    out[5] = f + INITIAL[5]!;
    out[6] = g + INITIAL[6]!;
    out[7] = h + INITIAL[7]!;
    return out[0];
  }
}
