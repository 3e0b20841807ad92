/** Decides whether a toll is paid, and pays it. Independent of HTTP. */

import { TollTooDear } from "./errors.js";
import { expectedSeconds } from "./machineProfile.js";
import { defaultMemoryMib } from "./offeredMemory.js";
import { Receipts } from "./receipts.js";
import type { Mode, PuzzleName, Solution, Toll } from "./records.js";
import { solve } from "./solve.js";
import { PUZZLES } from "./wire.js";
import { coreCount, type NoticeListener, sharedPool } from "./workerPool.js";

const HOUR_SECONDS = 3600;
const MAX_PAYMENTS = 10_000; // that are remembered
const DEFAULT_CORES = 4;

/** One paid toll: `expected` reference seconds by the published bounds, `seconds` of waiting, and the answer's `rows`. */
export interface Payment {
  readonly expected: number;
  readonly seconds: number;
  readonly rows: number;
  readonly puzzle: PuzzleName;
  readonly mode: Mode;
}

/** A purse's limits; seconds are expected seconds on one core of the reference machine. */
export interface PurseOptions {
  /** The most that is paid for one toll; larger tolls are refused before any work is done. 30 by default. */
  maxSeconds?: number;
  /** The most that is paid for all tolls of the last hour together; no limit by default. */
  maxSecondsPerHour?: number;
  /** Stop solving after this many seconds of work on one toll; no limit by default. */
  deadlineSeconds?: number;
  /** How many workers may solve one toll, at most one for each core; 4 by default. */
  cores?: number;
  /**
   * The most argon2id memory of one worker, in whole MiB; announced to the server. By default 256 if the machine has at
   * least 4 GiB and WebAssembly gets that much, else 64.
   */
  memoryMib?: number;
  /** The puzzles that may be solved; by default all that this client knows and the engine can solve. */
  puzzles?: readonly PuzzleName[];
  /** Called while solving with (evaluations done, most that can be needed; 0 if there is no bound). */
  progress?: (evaluations: number, most: number) => void;
  /** Decides whether to pay a toll above `maxSeconds`; without it such tolls are refused. */
  allow?: (toll: Toll, expected: number) => boolean | Promise<boolean>;
  /** Called after each payment. */
  paid?: (payment: Payment) => void;
  /** Called once if no worker can be started and this thread solves the tolls; `console.info` by default. */
  notice?: NoticeListener;
  /** The URL of `modeltoll/worker`, for pages whose policy allows workers of their own origin only. */
  workerUrl?: string | URL;
  /** Receipts that several purses share; by default the purse's own. */
  receipts?: Receipts;
  /** Seconds between the events of an opened answer that is an event stream; 0 by default, for all at once. */
  replayPace?: number;
  /** A monotonic clock, in seconds. */
  clock?: () => number;
}

/** Seconds that count against the hourly limit from the time `at` on. */
interface Charge {
  readonly at: number;
  seconds: number;
}

/** A caller's limits and payments. Several clients may share one purse. */
export class Purse {
  readonly maxSeconds: number;
  readonly memoryMib: number;
  readonly replayPace: number;
  readonly puzzles: readonly PuzzleName[];
  /** Receipts of opened seals that were not returned yet. */
  readonly receipts: Receipts;
  /** URLs of redeem paths that were found to lead to a gateway. */
  readonly redeemUrls = new Set<string>();
  private readonly options: PurseOptions;
  private readonly perHour: number;
  private readonly cores: number;
  private readonly clock: () => number;
  private charges: Charge[] = [];
  private readonly history: Payment[] = [];

  /** Throws `RangeError` if a limit is negative or not a number, or a puzzle is unknown. */
  constructor(options: PurseOptions = {}) {
    const { maxSeconds = 30, maxSecondsPerHour = Infinity, deadlineSeconds = 0 } = options;
    const { cores = DEFAULT_CORES, puzzles = PUZZLES, memoryMib = defaultMemoryMib(), replayPace = 0 } = options;
    for (const [name, limit] of Object.entries({ maxSeconds, maxSecondsPerHour, deadlineSeconds, replayPace })) {
      if (typeof limit !== "number" || !(limit >= 0))
        throw new RangeError(`${name} must be a number of seconds, at least 0`);
    }
    if (replayPace === Infinity) throw new RangeError("replayPace must be finite");
    if (!(cores >= 1) || !(memoryMib >= 1)) throw new RangeError("cores and memoryMib must be at least 1");
    if (puzzles.length === 0 || !puzzles.every((name) => PUZZLES.includes(name))) {
      throw new RangeError(`puzzles must be one or more of ${PUZZLES.join(", ")}`);
    }
    this.options = options;
    this.maxSeconds = maxSeconds;
    this.perHour = maxSecondsPerHour;
    this.memoryMib = memoryMib;
    this.replayPace = replayPace;
    this.cores = Math.min(Math.floor(cores), coreCount());
    this.puzzles = hasWebAssembly() ? puzzles : puzzles.filter((name) => name !== "argon2id");
    this.receipts = options.receipts ?? new Receipts();
    this.clock = options.clock ?? monotonicSeconds;
  }

  /** The last 10,000 payments, oldest first. */
  get payments(): readonly Payment[] {
    return [...this.history];
  }

  /**
   * The toll's expected reference seconds. Does not call `allow`.
   *
   * Throws `TollTooDear` if the toll exceeds `maxSeconds` (and there is no `allow`) or `memoryMib`, or if its puzzle is
   * not one of `puzzles`.
   */
  decide(toll: Toll): number {
    const expected = expectedSeconds(toll.challenge);
    const { puzzle, memoryKib } = toll.challenge;
    let reason = "";
    if (!this.puzzles.includes(puzzle)) {
      reason = `needs the puzzle ${puzzle}, which this client does not solve (puzzles; argon2id needs WebAssembly)`;
    } else if (expected > this.maxSeconds && !this.options.allow) {
      reason = `takes about ${formatSeconds(expected)} s of work, the limit is ${formatSeconds(this.maxSeconds)} s (maxSeconds)`;
    } else if (memoryKib > this.memoryMib * 1024) {
      reason = `takes ${memoryKib} KiB of memory, the limit is ${this.memoryMib} MiB (memoryMib)`;
    }
    if (reason) throw new TollTooDear(`the toll ${reason}`, expected, this.maxSeconds);
    return expected;
  }

  /**
   * Check the limits, charge the toll's seconds to the hour, and solve it.
   *
   * Rejects with `TollTooDear` above a limit: nothing was charged, no work was done. Rejects with `SolveStopped`,
   * `TollMalformed` or the signal's reason if the work did not end; the core seconds that it took stay charged.
   */
  async pay(toll: Toll, signal?: AbortSignal): Promise<Solution> {
    const { allow, paid, progress, deadlineSeconds, notice = console.info, workerUrl } = this.options;
    const expected = this.decide(toll);
    signal?.throwIfAborted();
    if (expected > this.maxSeconds && !(await allow?.(toll, expected))) {
      const message = `the toll takes about ${formatSeconds(expected)} s of work, which allow() refused`;
      throw new TollTooDear(message, expected, this.maxSeconds);
    }
    const charge = this.charge(expected);
    const begin = this.clock();
    const pool = sharedPool(workerUrl);
    const solveOptions = { cores: this.cores, pool, notice, progress, deadlineSeconds, signal };
    const solution = await solve(toll.challenge, solveOptions).catch((error: unknown) => {
      charge.seconds = Math.min(charge.seconds, (this.clock() - begin) * this.cores);
      throw error;
    });
    const { rows, mode, challenge } = toll;
    const payment = { expected, seconds: this.clock() - begin, rows, puzzle: challenge.puzzle, mode };
    this.remember(payment);
    paid?.(payment);
    return solution;
  }

  private charge(seconds: number): Charge {
    const now = this.clock();
    this.charges = this.charges.filter((charge) => charge.at > now - HOUR_SECONDS);
    const charged = this.charges.reduce((sum, charge) => sum + charge.seconds, 0);
    const left = Math.max(this.perHour - charged, 0);
    if (seconds > left) {
      const limits = `${formatSeconds(left)} s are left of this hour's ${formatSeconds(this.perHour)} s (maxSecondsPerHour)`;
      throw new TollTooDear(`the toll takes about ${formatSeconds(seconds)} s of work, ${limits}`, seconds, left);
    }
    const charge = { at: now, seconds };
    if (this.perHour < Infinity) this.charges.push(charge);
    return charge;
  }

  private remember(payment: Payment): void {
    this.history.push(payment);
    if (this.history.length > MAX_PAYMENTS) this.history.shift();
  }
}

function monotonicSeconds(): number {
  return performance.now() / 1000;
}

/** Three significant digits. */
function formatSeconds(seconds: number): string {
  return String(Number(seconds.toPrecision(3)));
}

/** Whether WebAssembly modules can be compiled; a page's policy may forbid it. */
function hasWebAssembly(): boolean {
  try {
    return new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)) instanceof WebAssembly.Module;
  } catch {
    return false;
  }
}
