/** A request as the caller made it, and the requests that follow from it. */

import { globals } from "./environment.js";
import { TollMalformed } from "./errors.js";
import { redemptionHeaders } from "./httpMessages.js";
import type { Toll } from "./records.js";

/** A request with its headers and its address, which is absolute unless it is invalid. */
export interface CallerRequest {
  readonly input: string | URL | Request;
  readonly init: RequestInit;
  readonly headers: Headers;
  readonly url: string;
  readonly signal: AbortSignal | undefined;
}

/** Read the arguments of `fetch`. */
export function readRequest(input: string | URL | Request, init: RequestInit): CallerRequest {
  const original = isRequest(input) ? input : undefined;
  return {
    input,
    init,
    headers: new Headers(init.headers ?? original?.headers),
    url: absoluteUrl(isRequest(input) ? input.url : String(input)),
    signal: init.signal ?? original?.signal,
  };
}

/** Whether the request can be sent once more: its body, if there is one, was not a stream. */
export function isRepeatable({ input, init }: CallerRequest): boolean {
  const { body } = init;
  const isStream = typeof body === "object" && body !== null && (Symbol.asyncIterator in body || "getReader" in body);
  return !isStream && !(isRequest(input) && input.bodyUsed);
}

/** What tells callers of one gateway apart. */
export function credentialsOf({ headers }: CallerRequest): string {
  return `${headers.get("authorization") ?? ""}\n${headers.get("x-api-key") ?? ""}`;
}

/** The options of a POST of JSON over the request's connection, with its credentials, which follows no redirect. */
export function postOptions(request: CallerRequest, body: string): RequestInit {
  const headers = redemptionHeaders(request.headers);
  return { ...connectionOptions(request), method: "POST", headers, body, redirect: "manual" };
}

/**
 * The URL to which a toll refers. `base` is the URL of the request whose response the toll is. Throws `TollMalformed` if
 * a redirect led from the caller's request to another origin.
 */
export function resolveReference(toll: Toll, base: string, request: CallerRequest): string {
  const url = new URL(toll.reference, base);
  if (url.origin !== new URL(request.url).origin) {
    throw new TollMalformed("a redirect led to another host; its token is not redeemed with this request's key");
  }
  return url.href;
}

/** Also true for the `Request` of another implementation of fetch. */
function isRequest(input: string | URL | Request): input is Request {
  return typeof input === "object" && "headers" in input;
}

/** An invalid URL stays as it is: `fetch` rejects it. */
function absoluteUrl(url: string): string {
  try {
    return new URL(url, globals.location?.href).href;
  } catch {
    return url;
  }
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
