/** Reads and builds the HTTP messages of a toll. */

import { concat } from "./bytes.js";
import { SealBroken, TollMalformed } from "./errors.js";
import { isEventStream, replay, type ReplayOptions } from "./eventStream.js";
import type { Answer, Bytes } from "./records.js";
import { MAX_TOLL_BYTES, STATUS } from "./wire.js";

const BINARY_HEADER = "Inference-Header-Content-Length"; // Open Inference Protocol, binary tensor data extension
/** A seal holds a content type and no other header, so the binary header's value stands there as a parameter. */
const TYPE_WITH_LENGTH = /^(.*?); inference-header-content-length=(\d{1,10})$/;
const BODY_HEADERS = ["content-encoding", "content-length", "content-type", "transfer-encoding"];
const REQUEST_HEADERS = [...BODY_HEADERS, "expect", "range", "toll-settle"];
const TOLL_HEADERS = [...BODY_HEADERS, "cache-control", "etag", "trailer", "www-authenticate"];
const BODILESS_STATUSES: ReadonlySet<number> = new Set([204, 205, 304]);

/** Whether the response's body must be read to see if it asks a toll. */
export function mayBeToll(response: Response): boolean {
  return response.status === STATUS && (response.headers.get("content-type") ?? "").toLowerCase().includes("json");
}

/** Whether the answer to a paid toll may have this status: anything but a further toll or a redirect. */
export function isFinalStatus(status: number): boolean {
  return status >= 200 && status !== STATUS && !(status >= 300 && status < 400);
}

/**
 * The whole body. Rejects with `TollMalformed` as soon as it is known to be larger than any toll: no more is inflated.
 * Two layers of compression are refused unread, for the inner one may be larger than both its ends.
 */
export async function readBounded(response: Response): Promise<Bytes> {
  const tooLarge = new TollMalformed(`the toll is larger than ${MAX_TOLL_BYTES} bytes`);
  const codings = (response.headers.get("content-encoding") ?? "").split(",").map((coding) => coding.trim());
  const isLayered = codings.filter((coding) => coding && coding.toLowerCase() !== "identity").length > 1;
  if (isLayered || Number(response.headers.get("content-length")) > MAX_TOLL_BYTES) {
    discard(response);
    throw isLayered ? new TollMalformed("the toll is compressed more than once") : tooLarge;
  }
  if (!response.body) return new Uint8Array();
  const reader = response.body.getReader();
  const chunks: Uint8Array[] = [];
  let left = MAX_TOLL_BYTES;
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    left -= chunk.value.length;
    if (left < 0) {
      void reader.cancel().catch(() => {});
      throw tooLarge;
    }
    chunks.push(chunk.value);
  }
  return concat(chunks);
}

/** Give up a response without reading its body. */
export function discard(response: Response): void {
  void response.body?.cancel().catch(() => {});
}

/** The headers of a redemption, taken from the request whose answer it fetches. */
export function redemptionHeaders(requestHeaders: Headers): Headers {
  const headers = without(requestHeaders, REQUEST_HEADERS);
  headers.set("content-type", "application/json");
  return headers;
}

/** The same response as `original`, whose body was read. */
export function withBody(original: Response, body: Bytes): Response {
  const { status, statusText, headers } = original;
  return copySource(new Response(body, { status, statusText, headers }), original);
}

/**
 * A response with the answer, and with those headers of the 402 that do not belong to the toll. An event stream has no
 * length, and comes one event after the other.
 */
export function answerResponse(toll: Response, answer: Answer, options: ReplayOptions = {}): Response {
  const { status, contentType, body } = answer;
  if (!isFinalStatus(status)) {
    throw new SealBroken(`the seal holds no answer, but status ${status}: a redirect, or a toll on a toll`);
  }
  const headers = without(toll.headers, TOLL_HEADERS);
  const isStreamed = isEventStream(answer);
  if (!isStreamed) headers.set("content-length", String(body.length));
  const [, type, length] = TYPE_WITH_LENGTH.exec(contentType) ?? [];
  if (contentType) headers.set("content-type", type ?? contentType);
  if (length) headers.set(BINARY_HEADER, length);
  const content = isStreamed ? replay(body, options) : body;
  return copySource(new Response(BODILESS_STATUSES.has(status) ? null : content, { status, headers }), toll);
}

/** A 402 with the reason why a toll was not paid, for callers that would retry after an error. */
export function refusalResponse(error: Error): Response {
  const reason = { message: error.message, type: error.name, code: "toll_not_paid" };
  const document = { title: "Toll not paid", status: STATUS, detail: error.message, error: reason };
  return new Response(JSON.stringify(document), { status: STATUS, headers: { "content-type": "application/json" } });
}

function without(headers: Headers, names: readonly string[]): Headers {
  const copy = new Headers(headers);
  for (const name of names) copy.delete(name);
  return copy;
}

/** The same response, with the URL, redirect flag and type of `source`. */
function copySource(response: Response, source: Response): Response {
  return Object.defineProperties(response, {
    url: { value: source.url },
    redirected: { value: source.redirected },
    type: { value: source.type },
  });
}
