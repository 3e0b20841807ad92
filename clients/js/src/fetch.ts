/** A `fetch` that pays tolls without the caller noticing. */

import { MemoryShort, SealBroken, TollError, TollMalformed, TollTooDear } from "./errors.js";
import { handsOver, mayBeToll, readBounded, rebuilt, redeemingHeaders, refused, replayed } from "./httpMessages.js";
import { expectedSeconds } from "./machineProfile.js";
import { Purse, type PurseOptions } from "./purse.js";
import type { Mode, Toll } from "./records.js";
import { openSeal } from "./seal.js";
import { ACCEPT_HEADER, canonicalChallenge, encodeRedemption, findToll, formatAccept, REDEEM_PATH } from "./wire.js";

export type Fetch = typeof globalThis.fetch;

export interface TollFetchOptions extends PurseOptions {
  /** Limits that are shared with other clients; the limits here are then not used. */
  purse?: Purse;
  /** How answers are wished for: `sealed` (one request, the default) or `redeem` (a second one fetches the answer). */
  mode?: Mode;
  /** Whether to say in `Toll-Accept` what can be done here (the default); without it servers use their defaults. */
  announce?: boolean;
  /** What a toll that is not paid becomes: a rejection (the default), or a 402 that says why, for SDKs that retry. */
  refusal?: "throw" | "respond";
}

/** A request as it was given, with its headers and address. */
interface Asked {
  readonly input: string | URL | Request;
  readonly init: RequestInit;
  readonly headers: Headers;
  readonly url: string;
}

/**
 * A drop-in `fetch`: on a 402 that asks a toll it does the work and returns the answer as the model server gave it.
 * What is no toll is not touched.
 *
 *     const client = new OpenAI({ fetch: tollFetch() });
 *
 * Rejects with `TollMalformed`, `TollTooDear`, `SolveStopped` or `SealBroken` where the toll was not paid or bought
 * nothing, and with the signal's reason where the request is aborted.
 */
export function tollFetch(fetch?: Fetch, options: TollFetchOptions = {}): Fetch {
  const client = new Client(fetch ?? ((input, init) => globalThis.fetch(input, init)), options);
  return async (input, init) => {
    try {
      return await client.fetch(input, init ?? {});
    } catch (error) {
      if (options.refusal === "respond" && error instanceof TollError) return refused(error);
      throw error;
    }
  };
}

class Client {
  private readonly purse: Purse;
  private memoryMib: number;

  constructor(
    private readonly send: Fetch,
    private readonly options: TollFetchOptions,
  ) {
    this.purse = options.purse ?? new Purse(options);
    this.memoryMib = this.purse.memoryMib;
  }

  async fetch(input: string | URL | Request, init: RequestInit): Promise<Response> {
    const given = typeof input === "object" && "headers" in input ? input : undefined;
    const headers = new Headers(init.headers ?? given?.headers);
    const asked = { input, init, headers, url: given?.url ?? String(input) };
    const own = headers.has(ACCEPT_HEADER) || this.options.announce === false;
    for (;;) {
      const told = this.memoryMib;
      if (!own) headers.set(ACCEPT_HEADER, formatAccept(this.purse.puzzles, this.options.mode ?? "sealed", told));
      const response = await this.send(input, { ...init, headers });
      if (!mayBeToll(response)) return response;
      const body = await readBounded(response);
      const toll = findToll(body);
      if (toll === null) return replayed(response, body);
      try {
        return await this.settle(asked, response, toll);
      } catch (error) {
        if (!(error instanceof MemoryShort) || own || !isRepeatable(asked)) throw error;
        this.lower(toll, told, error);
      }
    }
  }

  private async settle(asked: Asked, response: Response, toll: Toll): Promise<Response> {
    const signal = asked.init.signal ?? (asked.input as Partial<Request>).signal ?? undefined;
    this.purse.decide(toll);
    if (toll.mode === "sealed") {
      const solution = await this.purse.pay(toll, signal);
      return rebuilt(response, await openSeal(toll.cargo, solution, canonicalChallenge(toll.challenge, toll.mode)));
    }
    const origin = originOf(asked.url);
    if (originOf(response.url || asked.url) !== origin) {
      throw new TollMalformed("a redirect led to another host, whose token is not redeemed with this request's key");
    }
    const { counters } = await this.purse.pay(toll, signal);
    return this.redeem(asked, origin, encodeRedemption(toll.cargo, counters), toll.entry);
  }

  /**
   * Fetch what was paid for, where it was asked for, with the request's own credentials. Behind an entry there may stand
   * the toll for the answer, and no second entry.
   */
  private async redeem(asked: Asked, origin: string, body: string, entry: boolean): Promise<Response> {
    const headers = redeemingHeaders(asked.headers);
    const init = { ...carried(asked), method: "POST", headers, body, redirect: "manual" as const };
    const response = await this.send(origin + REDEEM_PATH, init);
    if (handsOver(response.status)) return response;
    if (entry && mayBeToll(response)) {
      const behind = findToll(await readBounded(response));
      if (behind !== null && !behind.entry) return this.settle(asked, response, behind);
    } else {
      void response.body?.cancel().catch(() => {});
    }
    throw new SealBroken(`the server answers a solved toll with ${response.status}: a redirect, or a toll on a toll`);
  }

  /** Say less memory from now on; rejects where the server asked for more than it was told. */
  private lower(toll: Toll, told: number, short: MemoryShort): void {
    const { memoryKib } = toll.challenge;
    if (told === 0 || memoryKib > told * 1024) {
      const message = `${short.message}, and the server asks for more than it was told`;
      throw new TollTooDear(message, expectedSeconds(toll.challenge), this.purse.maxSeconds);
    }
    this.memoryMib = Math.min(this.memoryMib, Math.floor(short.fits / 1024));
  }
}

function originOf(url: string): string {
  return new URL(url, globalThis.location?.href).origin;
}

/** Whether the request can be sent once more: its body, if there is one, was not a stream. */
function isRepeatable({ input, init }: Asked): boolean {
  const body = init.body as { [Symbol.asyncIterator]?: unknown; getReader?: unknown } | null | undefined;
  const streamed = typeof body === "object" && body !== null && (Symbol.asyncIterator in body || "getReader" in body);
  return !streamed && !(typeof input === "object" && "bodyUsed" in input && input.bodyUsed);
}

/** The options of a request that belong to its connection and credentials. */
function carried({ input, init }: Asked): RequestInit {
  const given: RequestInit = {};
  if (typeof input === "object" && "credentials" in input) {
    const { credentials, mode, referrerPolicy, signal } = input;
    Object.assign(given, { credentials, ...(mode !== "navigate" && { mode }), referrerPolicy, signal });
  }
  const { body: _body, integrity: _integrity, ...rest } = init;
  return { ...given, ...rest };
}
