/** Solves puzzles: searches counters upwards from 0, part by part, with as many workers as the pool provides. */

import { concat, equal, fromInteger, toInteger } from "./bytes.js";
import { InsufficientMemory, SolveStopped, TollMalformed } from "./errors.js";
import { Interruption } from "./interruption.js";
import { evaluationRate, expectedSeconds } from "./machineProfile.js";
import type { Bytes, Challenge, Part, Solution } from "./records.js";
import type { Hit, SearchTask, Task, TaskResult } from "./task.js";
import { timelockBase, timelockValue } from "./timelock.js";
import type { NoticeListener, WorkerPool } from "./workerPool.js";
import { inlineWorker, type SolverWorker } from "./workers.js";

/** `progress` receives (evaluations done, most that can be needed; 0 if there is no bound). */
export interface SolveOptions {
  readonly cores: number;
  readonly pool: WorkerPool;
  readonly notice: NoticeListener;
  readonly progress?: ((evaluations: number, most: number) => void) | undefined;
  readonly deadlineSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export const INLINE_MAX_KIB = 16 * 1024; // a slice is at least one evaluation: more memory would block a page too long
const CHECK_BYTES = 16;
const DIGEST_BITS = 256n;
const MAX_COUNTERS = Number.MAX_SAFE_INTEGER;
const TASK_SECONDS = 0.06; // the time that one task should take
const INLINE_SECONDS = 0.005; // shorter work is done before a worker has started
const SECONDS_PER_WORKER = 0.1; // expected work that one more worker is worth: a worker takes some 40 ms to start
const FIRST_TASK_DIVISOR = 4; // a worker's first task is shorter, since the rate of this machine is not known yet

/**
 * Solve a challenge.
 *
 * Rejects with the signal's reason if it is aborted, with `SolveStopped` past the deadline, with `InsufficientMemory` if
 * the machine does not give the memory, and with `TollMalformed` if there is no solution.
 */
export async function solve(challenge: Challenge, options: SolveOptions): Promise<Solution> {
  options.signal?.throwIfAborted();
  const interruption = new Interruption(options);
  const acquisition = acquireWorkers(challenge, options);
  let group: WorkerGroup | undefined;
  try {
    const workers = await interruption.race(acquisition);
    group = new WorkerGroup(workers, challenge, options);
    return await interruption.race(solveWith(group, challenge));
  } finally {
    interruption.dispose();
    if (group) group.end((worker, discard) => options.pool.release(worker, discard));
    else void acquisition.then((workers) => workers.forEach((worker) => options.pool.release(worker, false)));
  }
}

/** As many workers as the work is worth: short work stays on this thread, a time lock is no faster with two. */
async function acquireWorkers(challenge: Challenge, { pool, cores, notice }: SolveOptions): Promise<SolverWorker[]> {
  const seconds = expectedSeconds(challenge);
  if (seconds < INLINE_SECONDS) return [inlineWorker()];
  const useful = challenge.puzzle === "timelock" ? 1 : Math.ceil(seconds / SECONDS_PER_WORKER);
  return pool.acquire(Math.min(cores, useful), notice);
}

/** The workers of one challenge: what each is running, its rate, and how much is done. */
class WorkerGroup {
  isEnded = false;
  private readonly running = new Map<SolverWorker, Promise<unknown>>();
  private readonly rates = new Map<SolverWorker, number>();
  private readonly failures = new Set<SolverWorker>();
  private readonly most: number;
  private evaluations = 0;

  constructor(
    private readonly workers: readonly SolverWorker[],
    private readonly challenge: Challenge,
    private readonly options: SolveOptions,
  ) {
    if (workers.some((worker) => worker.inline) && challenge.memoryKib > INLINE_MAX_KIB) {
      const message = `no worker can be started, and this thread is not given ${challenge.memoryKib} KiB`;
      throw new InsufficientMemory(message, INLINE_MAX_KIB);
    }
    const isBounded = challenge.puzzle !== "hashcash";
    this.most = isBounded ? challenge.parts.reduce((sum, part) => sum + part.bound, 0) : 0;
  }

  /** The number of evaluations in this worker's next task. */
  taskSize(worker: SolverWorker): number {
    const rate = this.rates.get(worker) ?? evaluationRate(this.challenge) / FIRST_TASK_DIVISOR;
    return Math.max(1, Math.ceil(rate * TASK_SECONDS));
  }

  /** Run a task and report the progress; null if this worker failed. */
  async run(worker: SolverWorker, task: Task): Promise<TaskResult | null> {
    const begin = performance.now();
    const running = worker.run(task);
    this.running.set(worker, running);
    const result = await running.catch(() => null);
    this.running.delete(worker);
    if (result === null) {
      this.failures.add(worker);
      return null;
    }
    this.rates.set(worker, (1000 * result.evaluations) / Math.max(performance.now() - begin, 0.01));
    this.evaluations += result.evaluations;
    if (!this.isEnded) this.options.progress?.(this.evaluations, this.most);
    return result;
  }

  /** Call `work` for each worker that has not failed, once it has finished its current task. */
  async forEachWorker(work: (worker: SolverWorker) => Promise<void>): Promise<void> {
    const alive = this.workers.filter((worker) => !this.failures.has(worker));
    await Promise.all(
      alive.map(async (worker) => {
        await this.running.get(worker)?.catch(() => {});
        await work(worker);
      }),
    );
  }

  /** The error to throw if all workers failed before the work was done. */
  failure(): SolveStopped {
    const { memoryKib } = this.challenge;
    if (memoryKib === 0) return new SolveStopped("all workers failed");
    const message = `the machine does not give the ${memoryKib} KiB of memory that the puzzle takes`;
    return new InsufficientMemory(message, memoryKib / 2);
  }

  /** Release the workers; discard those that failed and those that are still running a task. */
  end(release: (worker: SolverWorker, discard: boolean) => void): void {
    this.isEnded = true;
    for (const worker of this.workers) release(worker, this.failures.has(worker) || this.running.has(worker));
  }
}

/** Hands out the counters of one part in order; ranges that a worker did not finish are handed out again first. */
class CounterRanges {
  private nextCounter = 0;
  private readonly unfinished: [number, number][] = [];

  constructor(private readonly end: number) {}

  next(size: number): [number, number] | undefined {
    const unfinished = this.unfinished.pop();
    if (unfinished) return unfinished;
    if (this.nextCounter >= this.end) return undefined;
    const from = this.nextCounter;
    this.nextCounter = Math.min(from + size, this.end);
    return [from, this.nextCounter];
  }

  putBack(from: number, stop: number): void {
    if (from < stop) this.unfinished.push([from, stop]);
  }

  /** Whether every counter was tried. */
  get isExhausted(): boolean {
    return this.nextCounter >= this.end && this.unfinished.length === 0;
  }
}

async function solveWith(group: WorkerGroup, challenge: Challenge): Promise<Solution> {
  const { puzzle, parts, memoryKib } = challenge;
  if (puzzle === "timelock") return solveTimelock(group, challenge);
  const hits: Hit[] = [];
  for (const part of parts) hits.push(await searchPart(group, part, puzzle, memoryKib));
  return { counters: hits.map((hit) => hit.counter), secret: concat(hits.map((hit) => hit.secret)) };
}

/** The hit of one part; ends at the first worker's hit, while the others still run their tasks. */
async function searchPart(
  group: WorkerGroup,
  part: Part,
  puzzle: SearchTask["puzzle"],
  memoryKib: number,
): Promise<Hit> {
  const target = part.check ?? largestDigest(part.bound);
  const base = { puzzle, target, seed: part.seed, start: part.start, memoryKib };
  const ranges = new CounterRanges(part.check ? part.bound : MAX_COUNTERS);
  let isFound = false;
  const hit = await new Promise<Hit | undefined>((resolve, reject) => {
    const search = async (worker: SolverWorker): Promise<void> => {
      while (!isFound && !group.isEnded) {
        const range = ranges.next(group.taskSize(worker));
        if (!range) return;
        const [from, stop] = range;
        const result = await group.run(worker, { ...base, from, count: stop - from });
        if (result?.hit) {
          resolve(result.hit);
          isFound = true;
        }
        ranges.putBack(from + (result?.evaluations ?? 0), stop);
        if (result === null) return;
      }
    };
    group.forEachWorker(search).then(() => resolve(undefined), reject);
  });
  if (hit) return hit;
  if (ranges.isExhausted) throw new TollMalformed("no counter below the published bound solves the puzzle");
  throw group.failure();
}

/** The largest digest, read as a big-endian integer, whose product with `bound` stays below 2^256. */
export function largestDigest(bound: number): Bytes {
  return fromInteger(((1n << DIGEST_BITS) - 1n) / BigInt(bound), Number(DIGEST_BITS) / 8);
}

/** Solve a time lock, part by part, on one worker. */
async function solveTimelock(group: WorkerGroup, { parts, modulus }: Challenge): Promise<Solution> {
  if (!modulus) throw new TollMalformed("the toll's time lock has no modulus");
  const n = toInteger(modulus);
  const secrets: Bytes[] = [];
  await group.forEachWorker(async (worker) => {
    for (const part of parts) secrets.push(await solveSquarings(group, worker, part, n));
  });
  return { counters: parts.map((part) => part.bound - 1), secret: concat(secrets) };
}

async function solveSquarings(group: WorkerGroup, worker: SolverWorker, part: Part, modulus: bigint): Promise<Bytes> {
  let x = await timelockBase(part.seed, modulus);
  for (let left = part.bound; left > 0 && !group.isEnded;) {
    const result = await group.run(worker, { puzzle: "timelock", x, modulus, count: left });
    if (result?.x === undefined) throw group.failure();
    x = result.x;
    left -= result.evaluations;
  }
  const value = await timelockValue(x);
  if (!part.check || !equal(value.subarray(0, CHECK_BYTES), part.check)) {
    throw new TollMalformed("the squarings do not solve the puzzle");
  }
  return value.slice(CHECK_BYTES);
}
