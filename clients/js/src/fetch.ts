/** A `fetch` that pays tolls. */

import { globals } from "./environment.js";
import { InsufficientMemory, SealBroken, TollError, TollMalformed, TollTooDear } from "./errors.js";
import {
  answerResponse,
  isFinalStatus,
  mayBeToll,
  readBounded,
  redemptionHeaders,
  refusalResponse,
  withBody,
} from "./httpMessages.js";
import { expectedSeconds } from "./machineProfile.js";
import { Purse, type PurseOptions } from "./purse.js";
import type { Mode, Toll } from "./records.js";
import { openSeal } from "./seal.js";
import { ACCEPT_HEADER, canonicalChallenge, encodeRedemption, findToll, formatAccept, REDEEM_PATH } from "./wire.js";

export type Fetch = typeof globalThis.fetch;

export interface TollFetchOptions extends PurseOptions {
  /** Limits that several clients share; the limits of these options are then not used. */
  purse?: Purse;
  /** The mode to ask for: `sealed` (one request, the default) or `redeem` (a second request fetches the answer). */
  mode?: Mode;
  /** Whether to send `Toll-Accept` (the default); without it servers use their defaults. */
  announce?: boolean;
  /** What happens if a toll is not paid: a rejection (the default), or a 402 with the reason, for SDKs that retry. */
  refusal?: "throw" | "respond";
}

/** A request as the caller made it, with its headers and address. */
interface CallerRequest {
  readonly input: string | URL | Request;
  readonly init: RequestInit;
  readonly headers: Headers;
  readonly url: string;
}

/**
 * A drop-in `fetch`: on a 402 that asks a toll it does the work and returns the answer as the model server gave it.
 * Any other response is returned unchanged.
 *
 *     const client = new OpenAI({ fetch: tollFetch() });
 *
 * Rejects with `TollMalformed`, `TollTooDear`, `SolveStopped` or `SealBroken` if the toll was not paid or the solution
 * opened nothing, and with the signal's reason if the request is aborted.
 */
export function tollFetch(fetch?: Fetch, options: TollFetchOptions = {}): Fetch {
  const client = new Client(fetch ?? globalFetch, options);
  return async (input, init) => {
    try {
      return await client.fetch(input, init ?? {});
    } catch (error) {
      if (options.refusal === "respond" && error instanceof TollError) return refusalResponse(error);
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
    const headers = new Headers(init.headers ?? (isRequest(input) ? input.headers : undefined));
    const request = { input, init, headers, url: isRequest(input) ? input.url : String(input) };
    const fixedAccept = headers.has(ACCEPT_HEADER) || this.options.announce === false;
    for (;;) {
      const announcedMib = this.memoryMib;
      if (!fixedAccept) {
        headers.set(ACCEPT_HEADER, formatAccept(this.purse.puzzles, this.options.mode ?? "sealed", announcedMib));
      }
      const response = await this.send(input, { ...init, headers });
      if (!mayBeToll(response)) return response;
      const body = await readBounded(response);
      const toll = findToll(body);
      if (toll === null) return withBody(response, body);
      try {
        return await this.payToll(request, response, toll);
      } catch (error) {
        if (!(error instanceof InsufficientMemory) || fixedAccept || !isRepeatable(request)) throw error;
        this.announceLess(toll, announcedMib, error);
      }
    }
  }

  private async payToll(request: CallerRequest, response: Response, toll: Toll): Promise<Response> {
    const { input, init, url } = request;
    const signal = init.signal ?? (isRequest(input) ? input.signal : undefined);
    this.purse.decide(toll);
    if (toll.mode === "sealed") {
      const solution = await this.purse.pay(toll, signal);
      const answer = await openSeal(toll.cargo, solution, canonicalChallenge(toll.challenge, toll.mode));
      return answerResponse(response, answer);
    }
    const origin = originOf(url);
    if (originOf(response.url || url) !== origin) {
      throw new TollMalformed("a redirect led to another host; its token is not redeemed with this request's key");
    }
    const { counters } = await this.purse.pay(toll, signal);
    return this.redeem(request, origin, encodeRedemption(toll.cargo, counters), toll.entry);
  }

  /**
   * Fetch the answer from the origin of the request, with the request's own credentials. An admission toll (`entry`)
   * may be followed by the toll for the answer, but not by a second admission toll.
   */
  private async redeem(request: CallerRequest, origin: string, body: string, entry: boolean): Promise<Response> {
    const headers = redemptionHeaders(request.headers);
    const init = { ...connectionOptions(request), method: "POST", headers, body, redirect: "manual" as const };
    const response = await this.send(origin + REDEEM_PATH, init);
    if (isFinalStatus(response.status)) return response;
    if (entry && mayBeToll(response)) {
      const next = findToll(await readBounded(response));
      if (next !== null && !next.entry) return this.payToll(request, response, next);
    } else {
      void response.body?.cancel().catch(() => {});
    }
    throw new SealBroken(`the server answers a solved toll with ${response.status}: a redirect, or a toll on a toll`);
  }

  /** Announce less memory from now on; throws if the server asked for more than was announced. */
  private announceLess(toll: Toll, announcedMib: number, cause: InsufficientMemory): void {
    const { memoryKib } = toll.challenge;
    if (announcedMib === 0 || memoryKib > announcedMib * 1024) {
      const message = `${cause.message}, and the server asks for more than the client announced`;
      throw new TollTooDear(message, expectedSeconds(toll.challenge), this.purse.maxSeconds);
    }
    this.memoryMib = Math.min(this.memoryMib, Math.floor(cause.suggestedKib / 1024));
  }
}

/** The global fetch at the time of the call, which a program may replace. */
const globalFetch: Fetch = (input, init) => globalThis.fetch(input, init);

/** Also true for the `Request` of another implementation of fetch. */
function isRequest(input: string | URL | Request): input is Request {
  return typeof input === "object" && "headers" in input;
}

function originOf(url: string): string {
  return new URL(url, globals.location?.href).origin;
}

/** Whether the request can be sent once more: its body, if there is one, was not a stream. */
function isRepeatable({ input, init }: CallerRequest): boolean {
  const { body } = init;
  const isStream = typeof body === "object" && body !== null && (Symbol.asyncIterator in body || "getReader" in body);
  return !isStream && !(isRequest(input) && input.bodyUsed);
}

/** The options of a request that belong to its connection and credentials. */
function connectionOptions({ input, init }: CallerRequest): RequestInit {
  const inherited: RequestInit = {};
  if (isRequest(input)) {
    const { credentials, mode, referrerPolicy, signal } = input;
    Object.assign(inherited, { credentials, ...(mode !== "navigate" && { mode }), referrerPolicy, signal });
  }
  const { body: _body, integrity: _integrity, ...rest } = init;
  return { ...inherited, ...rest };
}
