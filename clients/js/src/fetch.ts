/** A `fetch` that pays tolls. */

/// <reference lib="esnext.disposable" preserve="true" />

import {
  type CallerRequest,
  credentialsOf,
  isRepeatable,
  postOptions,
  readRequest,
  resolveReference,
} from "./callerRequest.js";
import { InsufficientMemory, SealBroken, TollError, TollTooDear } from "./errors.js";
import {
  answerResponse,
  discard,
  isFinalStatus,
  mayBeToll,
  readBounded,
  refusalResponse,
  withBody,
} from "./httpMessages.js";
import { Interruption } from "./interruption.js";
import { expectedSeconds } from "./machineProfile.js";
import { Purse, type PurseOptions } from "./purse.js";
import type { Pocket } from "./receipts.js";
import type { Answer, Bytes, Mode, Toll } from "./records.js";
import { PROBED_SECONDS, probeRedeemPath } from "./redeemPath.js";
import { hasWebCrypto, openSeal, proofOf, requireWebCrypto } from "./seal.js";
import {
  ACCEPT_HEADER,
  canonicalChallenge,
  encodeRedemption,
  encodeSettlement,
  findToll,
  formatAccept,
  formatSettle,
  MAX_HEADER_RECEIPTS,
  RECEIPT_HEADER,
  SETTLE_HEADER,
  SETTLE_PATH,
  STATUS,
} from "./wire.js";

const MAX_ADMISSIONS = 16; // admission tolls that are paid for one request, all but the first within maxSeconds together
const MAX_REPEATS = 3; // of one request with the receipts of earlier tolls, before it pays for admission
const SETTLE_TIMEOUT_MS = 10_000;
const CLIENT_ERROR = 400;
const TOO_MANY_REQUESTS = 429;
const SERVER_ERROR = 500;

export type Fetch = typeof globalThis.fetch;

/** A `fetch` that keeps receipts of opened seals, which are returned to the gateway with later requests. */
export interface TollFetch extends Fetch, AsyncDisposable {
  /** Return all receipts now. Without it they are returned when no request takes them along within 2 s. Never rejects. */
  close(): Promise<void>;
}

export interface TollFetchOptions extends PurseOptions {
  /** Limits and receipts that several clients share; those of these options are then not used. */
  purse?: Purse;
  /**
   * The mode to ask for: `sealed` (one request) or `redeem` (a second request fetches the answer). By default `sealed`,
   * and `redeem` where there is no WebCrypto: in pages that came over plain http.
   */
  mode?: Mode;
  /** Whether to send `Toll-Accept` (the default); without it servers use their defaults. */
  announce?: boolean;
  /** What happens if a toll is not paid: a rejection (the default), or a 402 with the reason, for SDKs that retry. */
  refusal?: "throw" | "respond";
}

/** A response that asks a toll, and the URL of its request. */
interface TollResponse {
  readonly response: Response;
  readonly url: string;
  readonly toll: Toll;
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
export function tollFetch(fetch?: Fetch, options: TollFetchOptions = {}): TollFetch {
  const client = new Client(fetch ?? globalFetch, options);
  const pay: Fetch = async (input, init) => {
    try {
      return await client.fetch(readRequest(input, init ?? {}));
    } catch (error) {
      if (options.refusal === "respond" && error instanceof TollError) return refusalResponse(error);
      throw error;
    }
  };
  const close = (): Promise<void> => client.close();
  return Object.assign(pay, { close, [Symbol.asyncDispose]: close });
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

  async fetch(request: CallerRequest): Promise<Response> {
    const fixedAccept = request.headers.has(ACCEPT_HEADER) || this.options.announce === false;
    for (let repeats = 0; ;) {
      const announcedMib = this.memoryMib;
      if (!fixedAccept) {
        const { mode = hasWebCrypto() ? "sealed" : "redeem" } = this.options;
        request.headers.set(ACCEPT_HEADER, formatAccept(this.purse.puzzles, mode, announcedMib));
      }
      const response = await this.sendWithReceipts(request);
      if (!mayBeToll(response)) return response;
      const body = await readBounded(response);
      const toll = findToll(body);
      if (toll === null) return withBody(response, body);
      const due = { response, url: response.url || request.url, toll };
      if (repeats < MAX_REPEATS && isRepeatable(request) && (await this.settleEarlierTolls(request, due))) {
        repeats++;
        continue;
      }
      try {
        return await this.pay(request, due);
      } catch (error) {
        if (!(error instanceof InsufficientMemory) || fixedAccept || !isRepeatable(request)) throw error;
        this.announceLess(toll, announcedMib, error);
      }
    }
  }

  /** Return all receipts. Never rejects. */
  close(): Promise<void> {
    return this.purse.receipts.close();
  }

  /**
   * Send the request with receipts for its gateway. They are kept unless the response is one of the gate, which has
   * counted them: other paths of the gateway, refusals and errors may not have.
   */
  private async sendWithReceipts(request: CallerRequest): Promise<Response> {
    const headers = new Headers(request.headers);
    const pocket = headers.has(SETTLE_HEADER)
      ? undefined
      : this.purse.receipts.find(request.url, credentialsOf(request));
    const receipts = pocket?.take(MAX_HEADER_RECEIPTS) ?? [];
    if (receipts.length > 0) headers.set(SETTLE_HEADER, formatSettle(receipts.map(({ bytes }) => bytes)));
    let isCounted = false;
    try {
      const response = await this.send(request.input, { ...request.init, headers });
      isCounted = response.status === STATUS || response.headers.has(RECEIPT_HEADER);
      return response;
    } finally {
      if (!isCounted) pocket?.putBack(receipts);
    }
  }

  /**
   * Before an admission toll is paid: wait until earlier tolls are opened or redeemed. Whether there were any, so that
   * the request may be admitted if it is sent again with their receipts.
   */
  private async settleEarlierTolls(request: CallerRequest, { toll, url }: TollResponse): Promise<boolean> {
    if (!toll.admission) return false;
    const pocket = this.purse.receipts.find(resolveReference(toll, url, request), credentialsOf(request));
    if (pocket === undefined) return false;
    request.signal?.throwIfAborted();
    const interruption = new Interruption(request);
    try {
      return await interruption.race(pocket.finishWork());
    } finally {
      interruption.dispose();
    }
  }

  /** Pay a toll, and the tolls that follow an admission toll; the answer. */
  private async pay(request: CallerRequest, first: TollResponse): Promise<Response> {
    let due = first;
    let further = 0; // seconds of admission tolls after the first
    for (let admissions = 0; ;) {
      const expected = this.purse.decide(due.toll);
      if (due.toll.admission && ++admissions > 1) further += expected;
      if (admissions > MAX_ADMISSIONS || further > this.purse.maxSeconds) throw tollOnToll(STATUS);
      if (due.toll.mode === "sealed") requireWebCrypto();
      const pocket = due.toll.admission ? undefined : this.openPocket(request, due);
      if (due.toll.mode === "sealed") {
        const opened = this.openSealed(request, due.toll, pocket);
        pocket?.track(opened);
        return answerResponse(due.response, await opened, { pace: this.purse.replayPace, signal: request.signal });
      }
      if (expected >= PROBED_SECONDS) {
        await probeRedeemPath(resolveReference(due.toll, due.url, request), request, this.send, this.purse.redeemUrls);
      }
      const redeemed = this.redeem(request, due);
      pocket?.track(redeemed);
      const { response, url, toll } = await redeemed;
      if (toll === null) return response;
      due = { response, url, toll };
    }
  }

  /** Solve a sealed toll, keep its receipt, and return its answer. */
  private async openSealed(request: CallerRequest, toll: Toll, pocket: Pocket | undefined): Promise<Answer> {
    const solution = await this.purse.pay(toll, request.signal);
    const { answer, receipt } = await openSeal(toll.cargo, solution, canonicalChallenge(toll.challenge, toll.mode));
    pocket?.add(receipt);
    return answer;
  }

  /** The pocket of a toll's gateway; none if a redirect led to it from another one. */
  private openPocket(request: CallerRequest, { toll, url }: TollResponse): Pocket | undefined {
    if (toll.reference === "") return undefined;
    let prefix: string;
    try {
      prefix = new URL("../../", resolveReference(toll, url, request)).href;
    } catch {
      return undefined;
    }
    const { signal: _signal, ...options } = postOptions(request, "");
    return this.purse.receipts.open(prefix, credentialsOf(request), (receipts, keepalive) =>
      this.postReceipts(prefix + SETTLE_PATH, receipts, { ...options, keepalive }),
    );
  }

  /** Whether the receipts need not be returned again: they were counted, or would not be. */
  private async postReceipts(target: string, receipts: readonly Bytes[], options: RequestInit): Promise<boolean> {
    const signal = AbortSignal.timeout(SETTLE_TIMEOUT_MS);
    const response = await this.send(target, { ...options, signal, body: encodeSettlement(receipts) });
    discard(response);
    const { ok, status } = response;
    return ok || (status >= CLIENT_ERROR && status < SERVER_ERROR && status !== TOO_MANY_REQUESTS);
  }

  /**
   * Solve a toll and redeem its token at the origin of the request, with the request's own credentials. The response,
   * and the toll in it if it asks one more: only an admission toll may be followed by another toll.
   */
  private async redeem(
    request: CallerRequest,
    { toll, url: base }: TollResponse,
  ): Promise<Omit<TollResponse, "toll"> & { toll: Toll | null }> {
    const url = resolveReference(toll, base, request);
    const solution = await this.purse.pay(toll, request.signal);
    const { counters, secret } = solution;
    const solved = secret.length > 0 ? { proof: await proofOf(solution) } : { counters };
    const response = await this.send(url, postOptions(request, encodeRedemption(toll.cargo, solved)));
    if (isFinalStatus(response.status)) return { response, url, toll: null };
    const next = toll.admission && mayBeToll(response) ? findToll(await readBounded(response)) : null;
    if (next !== null) return { response, url, toll: next };
    discard(response);
    throw tollOnToll(response.status);
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

function tollOnToll(status: number): SealBroken {
  return new SealBroken(`the server answers a solved toll with ${status}: a redirect, or a toll on a toll`);
}
