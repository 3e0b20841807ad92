/** What a pair of hands does in one go, in a worker or not: search a range of counters, or square on. */

import type { Evaluator } from "./argon2id.js";
import { evaluator } from "./argon2id.js";
import { equal } from "./bytes.js";
import type { Bytes, PuzzleName } from "./records.js";
import { Sha256 } from "./sha256.js";

/** Look at counters from `from` up, at most `count`; F is evaluated at `start` + counter. */
export interface Search {
  readonly puzzle: Exclude<PuzzleName, "timelock">;
  readonly seed: Bytes;
  readonly goal: Bytes; // the published check, or the largest digest that will do
  readonly memoryKib: number;
  readonly start: number;
  readonly from: number;
  readonly count: number;
}

/** Square `x` modulo `modulus`, at most `count` times. */
export interface Squaring {
  readonly puzzle: "timelock";
  readonly x: bigint;
  readonly modulus: bigint;
  readonly count: number;
}

export type Job = Search | Squaring;

/** What came of it: how much of the count was done in the time, and the counter and F's secret half, or x. */
export interface Done {
  readonly tried: number;
  readonly hit?: { readonly counter: number; readonly secret: Bytes };
  readonly x?: bigint;
}

const CHECK_BYTES = 16;
const HASHES = 2048; // SHA-256 between two looks at the clock: a millisecond
const SQUARINGS = 256;

let kept: { memoryKib: number; evaluate: Evaluator } | undefined;

/** Work at a job for at most about `budget` milliseconds, but for one evaluation at least. */
export async function perform(job: Job, budget: number): Promise<Done> {
  const end = performance.now() + budget;
  if (job.puzzle === "timelock") return square(job, end);
  return job.puzzle === "argon2id" ? searchArgon2id(job, end) : searchSha256(job, end);
}

async function searchArgon2id(job: Search, end: number): Promise<Done> {
  if (kept?.memoryKib !== job.memoryKib) {
    kept = undefined; // its memory may go first
    kept = { memoryKib: job.memoryKib, evaluate: await evaluator(job.memoryKib) };
  }
  const { evaluate } = kept;
  let tried = 0;
  do {
    const value = await evaluate(job.seed, job.start + job.from + tried);
    tried++;
    if (equal(value.subarray(0, CHECK_BYTES), job.goal)) {
      return { tried, hit: { counter: job.from + tried - 1, secret: value.slice(CHECK_BYTES) } };
    }
  } while (tried < job.count && performance.now() < end);
  return { tried };
}

function searchSha256(job: Search, end: number): Done {
  const hash = new Sha256(job.seed);
  const reaches = job.puzzle === "sha256" ? meets(job.goal) : staysBelow(job.goal);
  let tried = 0;
  do {
    const stop = Math.min(tried + HASHES, job.count);
    for (; tried < stop; tried++) {
      const n = job.from + tried;
      hash.digest(Math.floor(n / 2 ** 32) | 0, n | 0);
      if (reaches(hash.words)) {
        const secret = job.puzzle === "sha256" ? bytesOf(hash.words).slice(CHECK_BYTES) : new Uint8Array();
        return { tried: tried + 1, hit: { counter: n, secret } };
      }
    }
  } while (tried < job.count && performance.now() < end);
  return { tried };
}

type Reaches = (words: Int32Array) => boolean;

/** Whether a digest begins with the check. */
function meets(check: Bytes): Reaches {
  const view = new DataView(check.buffer, check.byteOffset);
  const [a, b, c, d] = [0, 4, 8, 12].map((at) => view.getInt32(at));
  return (words) => words[0] === a && words[1] === b && words[2] === c && words[3] === d;
}

/** Whether a digest, read as a big-endian integer, is at most the largest. */
function staysBelow(largest: Bytes): Reaches {
  const view = new DataView(largest.buffer, largest.byteOffset);
  const first = view.getUint32(0);
  return (words) => {
    if (words[0]! >>> 0 !== first) return words[0]! >>> 0 < first;
    const digest = bytesOf(words);
    const place = digest.findIndex((byte, at) => byte !== largest[at]);
    return place === -1 || digest[place]! < largest[place]!;
  };
}

function bytesOf(words: Int32Array): Bytes {
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  words.forEach((word, place) => view.setInt32(4 * place, word));
  return bytes;
}

function square(job: Squaring, end: number): Done {
  const { modulus, count } = job;
  let { x } = job;
  let tried = 0;
  do {
    const stop = Math.min(tried + SQUARINGS, count);
    for (; tried < stop; tried++) x = (x * x) % modulus;
  } while (tried < count && performance.now() < end);
  return { tried, x };
}
