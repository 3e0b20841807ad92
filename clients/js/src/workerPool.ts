/** The workers of this page or process: at most two for each core, however many tolls are solved at once. */

import { globals, nodeProcess, unref } from "./environment.js";
import { inlineWorker, type SolverWorker, startWorker } from "./workers.js";

const MAX_WORKERS_PER_CORE = 2; // so that a long toll does not hold up the short ones
const IDLE_TIMEOUT_MS = 10_000; // after this an idle worker is ended and its memory freed

/** The number of cores that the engine reports; 1 if it reports none. */
export function coreCount(): number {
  const navigator: Partial<Navigator> | undefined = globals.navigator;
  return navigator?.hardwareConcurrency || nodeProcess()?.getBuiltinModule("node:os").availableParallelism() || 1;
}

/** Receives messages for the developer or the user. */
export type NoticeListener = (text: string) => void;

/** Provides workers to solvers. `start` makes a new worker, or returns null if none can be started. */
export class WorkerPool {
  private readonly idle = new Map<SolverWorker, ReturnType<typeof setTimeout>>();
  private readonly waiting: (() => void)[] = [];
  private busyCount = 0;
  private unavailable = false;
  private readonly start: () => Promise<SolverWorker | null>;
  private readonly cores: number;

  constructor(start: () => Promise<SolverWorker | null> = startWorker, cores = coreCount()) {
    this.start = start;
    this.cores = cores;
  }

  /**
   * Between 1 and `most` workers: one for each free core, or one if no core is free. Waits while all cores are busy
   * twice.
   *
   * If no worker can be started, `notice` is called once, and the only worker is the calling thread.
   */
  async acquire(most: number, notice: NoticeListener): Promise<SolverWorker[]> {
    if (this.unavailable) return [inlineWorker()];
    while (this.busyCount >= MAX_WORKERS_PER_CORE * this.cores) {
      await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
    const count = Math.max(1, Math.min(most, this.cores - this.busyCount));
    this.busyCount += count;
    const started = await Promise.all(Array.from({ length: count }, () => this.takeIdleOrStart()));
    const workers = started.filter((worker) => worker !== null);
    this.free(count - workers.length);
    return workers.length > 0 ? workers : [this.fallBack(notice)];
  }

  /** Take a worker back; `discard` ends it instead of keeping it for the next toll. */
  release(worker: SolverWorker, discard: boolean): void {
    if (worker.inline) return;
    this.free(1);
    if (discard) {
      worker.terminate();
      return;
    }
    const timer = setTimeout(() => {
      this.idle.delete(worker);
      worker.terminate();
    }, IDLE_TIMEOUT_MS);
    unref(timer);
    this.idle.set(worker, timer);
  }

  private async takeIdleOrStart(): Promise<SolverWorker | null> {
    const [entry] = this.idle;
    if (!entry) return this.start();
    const [worker, timer] = entry;
    this.idle.delete(worker);
    clearTimeout(timer);
    return worker;
  }

  private free(count: number): void {
    this.busyCount -= count;
    for (const resume of this.waiting.splice(0, count)) resume();
  }

  private fallBack(notice: NoticeListener): SolverWorker {
    if (!this.unavailable)
      notice("modeltoll: no worker can be started here; tolls are solved in slices on this thread");
    this.unavailable = true;
    return inlineWorker();
  }
}

const pools = new Map<string, WorkerPool>();

/** The pool of this page or process, or of the workers that are served at that URL. */
export function sharedPool(workerUrl?: string | URL): WorkerPool {
  const name = String(workerUrl ?? "");
  const pool = pools.get(name) ?? new WorkerPool(() => startWorker(workerUrl));
  pools.set(name, pool);
  return pool;
}
