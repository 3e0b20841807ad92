/** Requests answers, pays their tolls and reports the progress. */

import {
  Purse,
  Receipts,
  SealBroken,
  SolveStopped,
  TollError,
  TollTooDear,
  tollFetch,
  type Toll,
} from "../src/index.js";

/** One request: `limit` is the most that is paid for it, in expected seconds of work. */
export interface RequestOptions {
  readonly path: string;
  readonly body: string;
  readonly key: string;
  readonly limit: number;
  readonly signal: AbortSignal;
}

/** Receives the events of a request: each toll, and then its progress. `most` is 0 if there is no bound. */
export interface RequestListener {
  readonly onToll?: (toll: Toll, seconds: number, price: number) => void;
  readonly onProgress?: (evaluations: number, most: number) => void;
}

/**
 * The result of a request. `price` is what was asked, for admission and for the answer together, and `workSeconds` the time that the work took, both in seconds;
 * `text` is the answer, or null if the price was above the limit.
 */
export interface PaidAnswer {
  readonly status: number;
  readonly text: string | null;
  readonly price: number;
  readonly workSeconds: number;
}

const WORKER_URL = "worker.js"; // beside the page, whose policy allows workers of its own origin only
const MIN_MEMORY_MIB = 1;
const ANNOUNCED_MEMORY = /memory=(\d+)MiB/;

/** Whether this browser can solve Argon2id; a policy may forbid WebAssembly. */
export function supportsArgon2id(): boolean {
  return new Purse().puzzles.includes("argon2id");
}

export class TollClient {
  private memoryMib = new Purse().memoryMib;
  private readonly receipts = new Receipts();

  /** `notice` receives each limitation of this browser once, as a sentence. */
  constructor(
    private readonly gateway: string,
    private readonly notice: (text: string) => void,
  ) {}

  /** Rejects with the error of `fetch` or of the client if there is no answer. */
  async request(options: RequestOptions, listener: RequestListener = {}): Promise<PaidAnswer> {
    const { path, body, key, limit, signal } = options;
    let [price, paidPrice, workSeconds] = [0, 0, 0];
    const begin = performance.now();
    const fetch = tollFetch((input, init) => this.send(input, init), {
      receipts: this.receipts,
      workerUrl: WORKER_URL,
      memoryMib: this.memoryMib,
      maxSeconds: 0, // so that `allow` is called for every toll
      allow: (toll) => {
        price = paidPrice + toll.typicalSeconds;
        listener.onToll?.(toll, (performance.now() - begin) / 1000, price);
        return price <= limit;
      },
      progress: (evaluations, most) => listener.onProgress?.(evaluations, most),
      paid: ({ seconds }) => {
        paidPrice = price;
        workSeconds += seconds;
      },
      notice: () =>
        this.notice("No worker can be started here: this page solves the tolls itself, in slices of 12 ms."),
    });
    const headers = { "content-type": "application/json", ...(key && { "x-api-key": key }) };
    try {
      const response = await fetch(this.gateway + path, { method: "POST", headers, body, signal });
      return { status: response.status, text: await response.text(), price, workSeconds };
    } catch (error) {
      if (error instanceof TollTooDear && price > limit) return { status: 402, text: null, price, workSeconds };
      throw error;
    }
  }

  /** Sends a request. It announces less memory than the one before if a worker got too little for a puzzle. */
  private send(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const accept = new Headers(init?.headers).get("toll-accept") ?? "";
    const announcedMib = Number(ANNOUNCED_MEMORY.exec(accept)?.[1] ?? this.memoryMib);
    if (announcedMib < this.memoryMib) {
      this.memoryMib = Math.max(announcedMib, MIN_MEMORY_MIB);
      this.notice(`There is too little memory for the puzzle: from now on tolls of at most ${this.memoryMib} MiB.`);
    }
    return globalThis.fetch(input, init);
  }
}

/** The sentence that the page shows for an error. */
export function errorMessage(error: unknown, gateway: string): string {
  if (error instanceof DOMException && error.name === "AbortError") return "Stopped. The answer stays sealed.";
  if (error instanceof SolveStopped) return `The work stopped: ${error.message}. Ask again.`;
  if (error instanceof SealBroken) return `The response is not an answer: ${error.message}.`;
  if (error instanceof TollError) return `Not paid: ${error.message}.`;
  if (error instanceof TypeError) {
    return (
      `This page cannot read an answer of ${gateway}. Either the gateway is not running, or its setting cors.origins ` +
      `does not list ${location.origin}.`
    );
  }
  return `The request failed: ${error instanceof Error ? error.message : String(error)}`;
}
