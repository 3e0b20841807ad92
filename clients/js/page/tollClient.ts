/** Buys answers, and says what happens meanwhile. */

import { Purse, SealBroken, SolveStopped, TollError, TollTooDear, tollFetch, type Toll } from "../src/index.js";

/** One thing to ask: `limit` is the most that is paid for it, in expected seconds of work; dearer answers stay sealed. */
export interface Order {
  readonly path: string;
  readonly body: string;
  readonly key: string;
  readonly limit: number;
  readonly signal: AbortSignal;
}

/** Hears what happens to an order, in this order. `most` is 0 where there is no such bound. */
export interface Watch {
  readonly sealed?: (toll: Toll, seconds: number) => void;
  readonly worked?: (done: number, most: number) => void;
}

/**
 * What came of an order. `price` is what was asked and `worked` what was waited for it, both in seconds; `text` is
 * the answer, or null where the price was above the limit.
 */
export interface Purchase {
  readonly status: number;
  readonly text: string | null;
  readonly price: number;
  readonly worked: number;
}

const WORKER = "worker.js"; // beside the page: its policy allows workers of its own origin only
const MEMORY_MIB = 64;
const LEAST_MIB = 1;
const TOLD = /memory=(\d+)MiB/;

/** Whether this browser does Argon2id at all; a policy may forbid it WebAssembly. */
export function knowsArgon2id(): boolean {
  return new Purse().puzzles.includes("argon2id");
}

export class Till {
  private memoryMib = MEMORY_MIB;

  /** `notice` hears what is not as it should be, each thing once. */
  constructor(
    private readonly gateway: string,
    private readonly notice: (text: string) => void,
  ) {}

  /** Rejects with what `fetch` or the client says, where it came to no answer. */
  async buy(order: Order, watch: Watch = {}): Promise<Purchase> {
    let [price, worked] = [0, 0];
    const begin = performance.now();
    const fetch = tollFetch((input, init) => this.send(input, init), {
      workerUrl: WORKER,
      memoryMib: this.memoryMib,
      maxSeconds: 0, // so that `allow` is asked about every toll
      allow: (toll) => {
        price = toll.typicalSeconds;
        watch.sealed?.(toll, (performance.now() - begin) / 1000);
        return price <= order.limit;
      },
      progress: (done, most) => watch.worked?.(done, most),
      paid: ({ seconds }) => (worked = seconds),
      notice: () => this.notice("Workers are not to be had here: this page itself works, in slices of some 12 ms."),
    });
    const headers = { "content-type": "application/json", ...(order.key && { "x-api-key": order.key }) };
    try {
      const response = await fetch(this.gateway + order.path, {
        method: "POST",
        headers,
        body: order.body,
        signal: order.signal,
      });
      return { status: response.status, text: await response.text(), price, worked };
    } catch (error) {
      if (error instanceof TollTooDear && price > order.limit) return { status: 402, text: null, price, worked };
      throw error;
    }
  }

  /** The client asks once more with less memory where a worker does not get what a puzzle takes. */
  private send(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const told = Number(TOLD.exec(new Headers(init?.headers).get("toll-accept") ?? "")?.[1] ?? this.memoryMib);
    if (told < this.memoryMib) {
      this.memoryMib = Math.max(told, LEAST_MIB);
      this.notice(
        `Here there is not the memory that was asked for: from now on tolls of at most ${this.memoryMib} MiB.`,
      );
    }
    return globalThis.fetch(input, init);
  }
}

/** An error in words for whoever looks at the page. */
export function inWords(error: unknown, gateway: string): string {
  if (error instanceof DOMException && error.name === "AbortError") return "Stopped. The answer stays sealed.";
  if (error instanceof SolveStopped) return `The work came to no end: ${error.message}. Ask again.`;
  if (error instanceof SealBroken) return `What came is not an answer: ${error.message}.`;
  if (error instanceof TollError) return `Not paid: ${error.message}.`;
  if (error instanceof TypeError) {
    return (
      `${gateway} did not let this page read an answer. Either it is not running, or its setting cors.origins does ` +
      `not list ${location.origin}.`
    );
  }
  return `That failed: ${error instanceof Error ? error.message : String(error)}`;
}
