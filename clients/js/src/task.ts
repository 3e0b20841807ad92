/** One task of a solver, in a worker or not: search a range of counters, or square repeatedly. */

import { createEvaluator, type Evaluator } from "./argon2id.js";
import { equal } from "./bytes.js";
import type { Bytes, PuzzleName } from "./records.js";
import { Sha256 } from "./sha256.js";

/** Try the counters from `from` on, at most `count` of them; F is evaluated at `start` + counter. */
export interface SearchTask {
  readonly puzzle: Exclude<PuzzleName, "timelock">;
  readonly seed: Bytes;
  readonly target: Bytes; // the published check, or the largest digest that solves the puzzle
  readonly memoryKib: number;
  readonly start: number;
  readonly from: number;
  readonly count: number;
}

/** Square `x` modulo `modulus`, at most `count` times. */
export interface SquaringTask {
  readonly puzzle: "timelock";
  readonly x: bigint;
  readonly modulus: bigint;
  readonly count: number;
}

export type Task = SearchTask | SquaringTask;

/** The counter that solves a part, and the secret half of F there. */
export interface Hit {
  readonly counter: number;
  readonly secret: Bytes;
}

/** How many of `count` evaluations (or squarings) were done; the hit of a search, if any; the new x of a squaring. */
export interface TaskResult {
  readonly evaluations: number;
  readonly hit?: Hit;
  readonly x?: bigint;
}

const CHECK_BYTES = 16;
const HASHES_PER_CLOCK_READ = 2048; // SHA-256: about a millisecond
const SQUARINGS_PER_CLOCK_READ = 256;

let cached: { memoryKib: number; evaluate: Evaluator } | undefined;

/** Work at a task for about `budget` milliseconds at most, but do at least one evaluation. */
export async function runTask(task: Task, budget: number): Promise<TaskResult> {
  const end = performance.now() + budget;
  if (task.puzzle === "timelock") return square(task, end);
  return task.puzzle === "argon2id" ? searchArgon2id(task, end) : searchSha256(task, end);
}

async function searchArgon2id(task: SearchTask, end: number): Promise<TaskResult> {
  if (cached?.memoryKib !== task.memoryKib) {
    cached = undefined; // so that its memory can be freed before more is allocated
    cached = { memoryKib: task.memoryKib, evaluate: await createEvaluator(task.memoryKib) };
  }
  const { evaluate } = cached;
  let evaluations = 0;
  do {
    const value = await evaluate(task.seed, task.start + task.from + evaluations);
    evaluations++;
    if (equal(value.subarray(0, CHECK_BYTES), task.target)) {
      return { evaluations, hit: { counter: task.from + evaluations - 1, secret: value.slice(CHECK_BYTES) } };
    }
  } while (evaluations < task.count && performance.now() < end);
  return { evaluations };
}

function searchSha256(task: SearchTask, end: number): TaskResult {
  const hash = new Sha256(task.seed);
  const isSolution = task.puzzle === "sha256" ? matchesCheck(task.target) : isAtMost(task.target);
  let evaluations = 0;
  do {
    const stop = Math.min(evaluations + HASHES_PER_CLOCK_READ, task.count);
    for (; evaluations < stop; evaluations++) {
      const n = task.from + evaluations;
      hash.digest(Math.floor(n / 2 ** 32) | 0, n | 0);
      if (isSolution(hash.words)) {
        const secret = task.puzzle === "sha256" ? digestBytes(hash.words).slice(CHECK_BYTES) : new Uint8Array();
        return { evaluations: evaluations + 1, hit: { counter: n, secret } };
      }
    }
  } while (evaluations < task.count && performance.now() < end);
  return { evaluations };
}

type DigestTest = (words: Int32Array) => boolean;

/** Whether a digest begins with the check. */
function matchesCheck(check: Bytes): DigestTest {
  const view = new DataView(check.buffer, check.byteOffset);
  const [a, b, c, d] = [0, 4, 8, 12].map((at) => view.getInt32(at));
  return (words) => words[0] === a && words[1] === b && words[2] === c && words[3] === d;
}

/** Whether a digest, read as a big-endian integer, is at most `largest`. */
function isAtMost(largest: Bytes): DigestTest {
  const limit = new DataView(largest.buffer, largest.byteOffset).getUint32(0);
  return (words) => {
    const first = (words[0] ?? 0) >>> 0;
    if (first !== limit) return first < limit;
    const digest = digestBytes(words);
    const at = digest.findIndex((byte, index) => byte !== largest[index]);
    return at === -1 || (digest[at] ?? 0) < (largest[at] ?? 0);
  };
}

function digestBytes(words: Int32Array): Bytes {
  const bytes = new Uint8Array(4 * words.length);
  const view = new DataView(bytes.buffer);
  words.forEach((word, index) => view.setInt32(4 * index, word));
  return bytes;
}

function square(task: SquaringTask, end: number): TaskResult {
  const { modulus, count } = task;
  let { x } = task;
  let evaluations = 0;
  do {
    const stop = Math.min(evaluations + SQUARINGS_PER_CLOCK_READ, count);
    for (; evaluations < stop; evaluations++) x = (x * x) % modulus;
  } while (evaluations < count && performance.now() < end);
  return { evaluations, x };
}
