/** Decide and pay. No HTTP is known here. */

import { benchOf, coresHere, type Notice } from "./workerPool.js";
import { TollTooDear } from "./errors.js";
import { expectedSeconds } from "./machineProfile.js";
import type { Mode, PuzzleName, Solution, Toll } from "./records.js";
import { solve } from "./solve.js";
import { PUZZLES } from "./wire.js";

const HOUR = 3600;
const REMEMBERED = 10_000; // payments
const DEFAULT_CORES = 4;

/** What one toll took: `expected` reference seconds as published, `seconds` of waiting, `rows` bought. */
export interface Payment {
  readonly expected: number;
  readonly seconds: number;
  readonly rows: number;
  readonly puzzle: PuzzleName;
  readonly mode: Mode;
}

/** A purse's limits; seconds are expected seconds on one core of the reference machine. */
export interface PurseOptions {
  /** The dearest toll that is paid; dearer ones are refused before any work is done. 30 by default. */
  maxSeconds?: number;
  /** The same for all tolls of the last hour together; no limit by default. */
  maxSecondsPerHour?: number;
  /** Stop solving after this many seconds of work on one toll; no limit by default. */
  deadlineSeconds?: number;
  /** How many workers may solve one toll; by default up to 4, and never more than there are cores. */
  cores?: number;
  /** The largest argon2id memory that a worker may take, in whole MiB; the server is told. 64 by default. */
  memoryMib?: number;
  /** The puzzles that are paid with; by default all that this client knows and can do here. */
  puzzles?: readonly PuzzleName[];
  /** Hears (evaluations done, most that can be needed; 0 where there is no such bound) while solving. */
  progress?: (done: number, most: number) => void;
  /** Asked whether to pay a toll above `maxSeconds`; without it such tolls are refused. */
  allow?: (toll: Toll, expected: number) => boolean | Promise<boolean>;
  /** Hears of each payment. */
  paid?: (payment: Payment) => void;
  /** Hears once that no worker can be had, so that this thread works; `console.info` by default. */
  notice?: Notice;
  /** Where `modeltoll/worker` is served, for pages whose policy allows workers of their own origin only. */
  workerUrl?: string | URL;
  /** Seconds that never go back. */
  clock?: () => number;
}

interface Share {
  readonly at: number;
  seconds: number;
}

/** What a caller is ready to spend, and what was spent. One purse may serve many clients. */
export class Purse {
  readonly maxSeconds: number;
  readonly memoryMib: number;
  readonly puzzles: readonly PuzzleName[];
  private readonly options: PurseOptions;
  private readonly perHour: number;
  private readonly cores: number;
  private readonly clock: () => number;
  private shares: Share[] = [];
  private readonly log: Payment[] = [];

  /** Throws `RangeError` where a limit is negative or not a number, or a puzzle is not known. */
  constructor(options: PurseOptions = {}) {
    const { maxSeconds = 30, maxSecondsPerHour = Infinity, deadlineSeconds = 0, memoryMib = 64 } = options;
    const { cores = DEFAULT_CORES, puzzles = PUZZLES } = options;
    for (const [name, limit] of Object.entries({ maxSeconds, maxSecondsPerHour, deadlineSeconds })) {
      if (typeof limit !== "number" || !(limit >= 0)) throw new RangeError(`${name} is a number of seconds from 0 up`);
    }
    if (!(cores >= 1) || !(memoryMib >= 1)) throw new RangeError("a purse needs at least one core and 1 MiB of memory");
    if (puzzles.length === 0 || !puzzles.every((name) => PUZZLES.includes(name))) {
      throw new RangeError(`puzzles are some of ${PUZZLES.join(", ")}`);
    }
    this.options = options;
    this.maxSeconds = maxSeconds;
    this.perHour = maxSecondsPerHour;
    this.memoryMib = memoryMib;
    this.cores = Math.min(Math.floor(cores), coresHere());
    this.puzzles = hasWebAssembly() ? puzzles : puzzles.filter((name) => name !== "argon2id");
    this.clock = options.clock ?? (() => performance.now() / 1000);
  }

  /** The tolls paid so far, oldest first; of a very long row the last 10,000. */
  get payments(): readonly Payment[] {
    return [...this.log];
  }

  /**
   * The toll's expected reference seconds, if this purse pays for such tolls at all; `allow` is not asked yet.
   *
   * Throws `TollTooDear` where it takes more seconds or memory than a toll may, or another puzzle.
   */
  decide(toll: Toll): number {
    const expected = expectedSeconds(toll.challenge);
    const { puzzle, memoryKib } = toll.challenge;
    let fault = "";
    if (!this.puzzles.includes(puzzle)) {
      fault = `is made of ${puzzle}, which this client does not pay with (puzzles; argon2id needs WebAssembly)`;
    } else if (expected > this.maxSeconds && !this.options.allow) {
      fault = `takes about ${short(expected)} s of work, the limit is ${short(this.maxSeconds)} s (maxSeconds)`;
    } else if (memoryKib > this.memoryMib * 1024) {
      fault = `takes ${memoryKib} KiB of memory, the limit is ${this.memoryMib} MiB (memoryMib)`;
    }
    if (fault) throw new TollTooDear(`the toll ${fault}`, expected, this.maxSeconds);
    return expected;
  }

  /**
   * Decide, take the toll's seconds from the hour's allowance, and solve it.
   *
   * Rejects with `TollTooDear` above a limit: nothing was taken, no work was done. Otherwise as `solve`; work that is
   * given up counts with the core seconds that were worked.
   */
  async pay(toll: Toll, signal?: AbortSignal): Promise<Solution> {
    const { allow, paid, progress, deadlineSeconds, notice = console.info, workerUrl } = this.options;
    const expected = this.decide(toll);
    signal?.throwIfAborted();
    if (expected > this.maxSeconds && !(await allow?.(toll, expected))) {
      const message = `the toll takes about ${short(expected)} s of work, which was not allowed`;
      throw new TollTooDear(message, expected, this.maxSeconds);
    }
    const share = this.take(expected);
    const begin = this.clock();
    const watch = { cores: this.cores, bench: benchOf(workerUrl), notice, progress, deadlineSeconds, signal };
    const solution = await solve(toll.challenge, watch).catch((error: unknown) => {
      share.seconds = Math.min(share.seconds, (this.clock() - begin) * this.cores);
      throw error;
    });
    const { rows, mode, challenge } = toll;
    const payment = { expected, seconds: this.clock() - begin, rows, puzzle: challenge.puzzle, mode };
    this.remember(payment);
    paid?.(payment);
    return solution;
  }

  private take(seconds: number): Share {
    const now = this.clock();
    this.shares = this.shares.filter((share) => share.at > now - HOUR);
    const left = Math.max(this.perHour - this.shares.reduce((sum, share) => sum + share.seconds, 0), 0);
    if (seconds > left) {
      const limits = `${short(left)} s are left of this hour's ${short(this.perHour)} s (maxSecondsPerHour)`;
      throw new TollTooDear(`the toll takes about ${short(seconds)} s of work, ${limits}`, seconds, left);
    }
    const share = { at: now, seconds };
    if (this.perHour < Infinity) this.shares.push(share);
    return share;
  }

  private remember(payment: Payment): void {
    this.log.push(payment);
    if (this.log.length > REMEMBERED) this.log.shift();
  }
}

function short(seconds: number): string {
  return String(Number(seconds.toPrecision(3)));
}

/** Whether modules can be compiled here: a page's policy may forbid it where the engine has it. */
function hasWebAssembly(): boolean {
  try {
    return new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0)) instanceof WebAssembly.Module;
  } catch {
    return false;
  }
}
