/** The solver: counts up from 0, part by part, watched, with as many hands as it gets. */

import type { Bench, Notice } from "./workerPool.js";
import { concat, equal, fromInteger, toInteger } from "./bytes.js";
import { MemoryShort, SolveStopped, TollMalformed } from "./errors.js";
import { type Hand, sliceHand } from "./workers.js";
import type { Done, Search } from "./task.js";
import { expectedSeconds, rateOf } from "./machineProfile.js";
import type { Bytes, Challenge, Part, Solution } from "./records.js";
import { baseOf, valueOf } from "./timelock.js";

/** How a solver is watched. `progress` receives (evaluations done, most that can be needed; 0 for no such bound). */
export interface Watch {
  readonly cores: number;
  readonly bench: Bench;
  readonly notice: Notice;
  readonly progress?: ((done: number, most: number) => void) | undefined;
  readonly deadlineSeconds?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export const SLICED_KIB = 16 * 1024; // one evaluation is one slice: more memory would hold up a page for too long
const CHECK_BYTES = 16;
const DIGEST_BITS = 256n;
const COUNTERS = Number.MAX_SAFE_INTEGER;
const TURN_SECONDS = 0.06; // of one range: what a hand does before it is heard again
const SHORT_SECONDS = 0.005; // less is done before a worker has begun
const WORTH_SECONDS = 0.1; // of expected work for each worker: one takes some 40 ms to begin
const CAUTION = 4; // the first range is so much shorter, for nobody knows this machine yet

interface Hit {
  readonly counter: number;
  readonly secret: Bytes;
}

/**
 * Do the work of a challenge.
 *
 * Rejects with the signal's reason where it is aborted, with `SolveStopped` past the deadline, with `MemoryShort` where
 * the machine does not give the memory, and with `TollMalformed` where there is no solution.
 */
export async function solve(challenge: Challenge, watch: Watch): Promise<Solution> {
  watch.signal?.throwIfAborted();
  const stop = new Stop(watch);
  const hiring = hire(challenge, watch);
  let shift: Shift | undefined;
  try {
    const hands = await stop.first(hiring);
    shift = new Shift(hands, challenge, watch);
    const work = challenge.puzzle === "timelock" ? unlock(shift, challenge) : count(shift, challenge);
    return await stop.first(work);
  } finally {
    stop.clear();
    if (shift) shift.end((hand, spent) => watch.bench.release(hand, spent));
    else void hiring.then((hands) => hands.forEach((hand) => watch.bench.release(hand, false)));
  }
}

/** As many hands as the work is worth: short work stays on the calling thread, a time lock is no faster with two. */
async function hire(challenge: Challenge, { bench, cores, notice }: Watch): Promise<Hand[]> {
  const seconds = expectedSeconds(challenge);
  if (seconds < SHORT_SECONDS) return [sliceHand()];
  const useful = challenge.puzzle === "timelock" ? 1 : Math.ceil(seconds / WORTH_SECONDS);
  return bench.hire(Math.min(cores, useful), notice);
}

/** Rejects where the signal or the deadline ends the work. */
class Stop {
  private readonly stopped: Promise<never>;
  private readonly timer: ReturnType<typeof setTimeout> | undefined;
  private readonly signal: AbortSignal | undefined;
  private onabort = (): void => {};

  constructor({ signal, deadlineSeconds }: Watch) {
    let reject: (reason: unknown) => void = () => {};
    this.stopped = new Promise((_, refuse) => (reject = refuse));
    this.stopped.catch(() => {}); // heard through `first`
    this.signal = signal;
    this.onabort = () => reject(signal?.reason);
    signal?.addEventListener("abort", this.onabort);
    if (deadlineSeconds !== undefined) {
      const late = new SolveStopped("the work was not done before its deadline");
      this.timer = setTimeout(() => reject(late), Math.min(1000 * deadlineSeconds, 2 ** 31 - 1));
    }
  }

  first<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.stopped]);
  }

  clear(): void {
    clearTimeout(this.timer);
    this.signal?.removeEventListener("abort", this.onabort);
  }
}

/** Hands at work on one challenge: what each is doing, how fast it is, and how much is done. */
class Shift {
  over = false;
  private readonly turns = new Map<Hand, Promise<unknown>>();
  private readonly rates = new Map<Hand, number>();
  private readonly lost = new Set<Hand>();
  private readonly most: number;
  private done = 0;

  constructor(
    readonly hands: readonly Hand[],
    private readonly challenge: Challenge,
    private readonly watch: Watch,
  ) {
    if (hands.some((hand) => hand.slices) && challenge.memoryKib > SLICED_KIB) {
      throw new MemoryShort(`no worker is to be had, and a slice has no ${challenge.memoryKib} KiB`, SLICED_KIB);
    }
    const bounded = challenge.puzzle !== "hashcash";
    this.most = bounded ? challenge.parts.reduce((sum, part) => sum + part.bound, 0) : 0;
  }

  /** How many evaluations this hand does in one turn. */
  turn(hand: Hand): number {
    const rate = this.rates.get(hand) ?? rateOf(this.challenge) / CAUTION;
    return Math.max(1, Math.ceil(rate * TURN_SECONDS));
  }

  /** One turn of a hand, after the one that it may still be at; null where this hand is lost. */
  async take(hand: Hand, job: Parameters<Hand["work"]>[0]): Promise<Done | null> {
    const begin = performance.now();
    const turn = hand.work(job);
    this.turns.set(hand, turn);
    const done = await turn.catch(() => null);
    this.turns.delete(hand);
    if (done === null) {
      this.lost.add(hand);
      return null;
    }
    this.rates.set(hand, (1000 * done.tried) / Math.max(performance.now() - begin, 0.01));
    this.done += done.tried;
    if (!this.over) this.watch.progress?.(this.done, this.most);
    return done;
  }

  /** The hands that are still there, each once it is free. */
  async each(toil: (hand: Hand) => Promise<void>): Promise<void> {
    const there = this.hands.filter((hand) => !this.lost.has(hand));
    await Promise.all(
      there.map(async (hand) => {
        await this.turns.get(hand)?.catch(() => {});
        await toil(hand);
      }),
    );
  }

  /** What to say where hands were lost before the work was done. */
  short(): SolveStopped {
    const asked = this.challenge.memoryKib;
    if (asked === 0) return new SolveStopped("the workers broke off");
    return new MemoryShort(`the machine does not give the ${asked} KiB of memory that the puzzle takes`, asked / 2);
  }

  /** Send the hands home; those still at a long turn, and those that are lost, for good. */
  end(release: (hand: Hand, spent: boolean) => void): void {
    this.over = true;
    for (const hand of this.hands) release(hand, this.lost.has(hand) || this.turns.has(hand));
  }
}

/** The counters of one part, handed out in order; what a hand did not get done comes back first. */
class Ranges {
  private next = 0;
  private readonly back: [number, number][] = [];

  constructor(private readonly end: number) {}

  draw(size: number): [number, number] | undefined {
    const returned = this.back.pop();
    if (returned) return returned;
    if (this.next >= this.end) return undefined;
    const from = this.next;
    this.next = Math.min(from + size, this.end);
    return [from, this.next];
  }

  giveBack(from: number, stop: number): void {
    if (from < stop) this.back.push([from, stop]);
  }

  /** Whether every counter was looked at. */
  get isDone(): boolean {
    return this.next >= this.end && this.back.length === 0;
  }
}

async function count(shift: Shift, challenge: Challenge): Promise<Solution> {
  const hits: Hit[] = [];
  for (const part of challenge.parts) hits.push(await find(shift, challenge, part));
  return { counters: hits.map((hit) => hit.counter), secret: concat(hits.map((hit) => hit.secret)) };
}

/** The counter of one part; ends at the first hand's hit, whatever the others still do. */
async function find(shift: Shift, challenge: Challenge, part: Part): Promise<Hit> {
  const puzzle = challenge.puzzle as Search["puzzle"];
  const goal = part.check ?? largestDigest(part.bound);
  const base = { puzzle, goal, seed: part.seed, start: part.start, memoryKib: challenge.memoryKib };
  const ranges = new Ranges(part.check ? part.bound : COUNTERS);
  let over = false;
  const hit = await new Promise<Hit | undefined>((resolve, reject) => {
    const toil = async (hand: Hand): Promise<void> => {
      while (!over && !shift.over) {
        const range = ranges.draw(shift.turn(hand));
        if (!range) return;
        const [from, stop] = range;
        const done = await shift.take(hand, { ...base, from, count: stop - from });
        if (done?.hit) resolve(done.hit);
        over ||= done?.hit !== undefined;
        ranges.giveBack(from + (done?.tried ?? 0), stop);
        if (done === null) return;
      }
    };
    shift.each(toil).then(() => resolve(undefined), reject);
  });
  if (hit) return hit;
  throw ranges.isDone ? new TollMalformed("no counter below the published bound solves the puzzle") : shift.short();
}

/** The largest digest, read as a big-endian integer, whose product with `bound` stays below 2^256. */
export function largestDigest(bound: number): Bytes {
  return fromInteger(((1n << DIGEST_BITS) - 1n) / BigInt(bound), Number(DIGEST_BITS) / 8);
}

/** A time lock, part by part, on one core: a second one would not help. */
async function unlock(shift: Shift, challenge: Challenge): Promise<Solution> {
  const modulus = toInteger(challenge.modulus!);
  const [hand] = shift.hands;
  const secrets: Bytes[] = [];
  for (const part of challenge.parts) {
    let x = await baseOf(part.seed, modulus);
    for (let left = part.bound; left > 0 && !shift.over;) {
      const done = await shift.take(hand!, { puzzle: "timelock", x, modulus, count: left });
      if (done === null) throw shift.short();
      x = done.x!;
      left -= done.tried;
    }
    const value = await valueOf(x);
    if (!equal(value.subarray(0, CHECK_BYTES), part.check!)) {
      throw new TollMalformed("the squarings do not solve the puzzle");
    }
    secrets.push(value.slice(CHECK_BYTES));
  }
  return { counters: challenge.parts.map((part) => part.bound - 1), secret: concat(secrets) };
}
