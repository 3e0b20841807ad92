/** The workers of this page or process: about as many as it has cores, however many tolls are paid at once. */

import { type Hand, sliceHand, startWorker } from "./workers.js";

const CROWD = 2; // workers for each core at most: a toll that takes long does not hold up the short ones
const IDLE_MS = 10_000; // then a worker goes, and its memory with it

/** How many cores there are, as far as one is told. */
export function coresHere(): number {
  const told = globalThis.navigator?.hardwareConcurrency;
  return told || globalThis.process?.getBuiltinModule?.("node:os").availableParallelism() || 1;
}

export type Notice = (text: string) => void;

/** Where hands wait for work. `start` makes a new worker, or says null where there is none to be had. */
export class Bench {
  private readonly idle = new Map<Hand, ReturnType<typeof setTimeout>>();
  private readonly queue: (() => void)[] = [];
  private busy = 0;
  private blocked = false;
  private readonly start: () => Promise<Hand | null>;
  private readonly places: number;

  constructor(start: () => Promise<Hand | null> = startWorker, places = coresHere()) {
    this.start = start;
    this.places = places;
  }

  /**
   * Between 1 and `most` pairs of hands: those that find a core free, one where there is none; waits where it is crowded.
   *
   * `notice` hears once that no worker can be had.
   */
  async hire(most: number, notice: Notice): Promise<Hand[]> {
    if (this.blocked) return [sliceHand()];
    while (this.busy >= CROWD * this.places) await new Promise<void>((resolve) => this.queue.push(resolve));
    const count = Math.max(1, Math.min(most, this.places - this.busy));
    this.busy += count;
    const hired = await Promise.all(Array.from({ length: count }, () => this.wake()));
    const hands = hired.filter((hand) => hand !== null);
    this.leave(count - hands.length);
    return hands.length > 0 ? hands : [this.sliced(notice)];
  }

  /** Take hands back; those that are `spent` are sent away. */
  release(hand: Hand, spent: boolean): void {
    if (hand.slices) return;
    this.leave(1);
    if (spent) {
      hand.leave();
      return;
    }
    const timer = setTimeout(() => {
      this.idle.delete(hand);
      hand.leave();
    }, IDLE_MS);
    (timer as { unref?: () => void }).unref?.();
    this.idle.set(hand, timer);
  }

  private async wake(): Promise<Hand | null> {
    const [entry] = this.idle;
    if (!entry) return this.start();
    const [hand, timer] = entry;
    this.idle.delete(hand);
    clearTimeout(timer);
    return hand;
  }

  private leave(count: number): void {
    this.busy -= count;
    for (let freed = 0; freed < count; freed++) this.queue.shift()?.();
  }

  private sliced(notice: Notice): Hand {
    if (!this.blocked) notice("modeltoll: no worker can be had here, so tolls are worked for in slices on this thread");
    this.blocked = true;
    return sliceHand();
  }
}

const benches = new Map<string, Bench>();

/** The bench of this page or process, or of the workers that are served at that URL. */
export function benchOf(workerUrl?: string | URL): Bench {
  const name = String(workerUrl ?? "");
  const bench = benches.get(name) ?? new Bench(() => startWorker(workerUrl));
  benches.set(name, bench);
  return bench;
}
