/** What a toll changes in HTTP messages. */

import { concat } from "./bytes.js";
import { SealBroken, TollMalformed } from "./errors.js";
import type { Answer, Bytes } from "./records.js";
import { MAX_TOLL_BYTES, STATUS } from "./wire.js";

const BINARY_HEADER = "Inference-Header-Content-Length"; // Open Inference Protocol, binary tensor data extension
const FOLDED = /^(.*?); inference-header-content-length=(\d{1,10})$/; // a seal has room for a content type alone
const OF_THE_BODY = ["content-encoding", "content-length", "content-type", "transfer-encoding"];
const OF_THE_REQUEST = [...OF_THE_BODY, "expect", "range"];
const OF_THE_TOLL = [...OF_THE_BODY, "cache-control", "etag", "trailer", "www-authenticate"];
const WITHOUT_BODY = [204, 205, 304];

/** Whether the body of such a response must be read, to see what is asked; any other is not touched. */
export function mayBeToll(response: Response): boolean {
  return response.status === STATUS && (response.headers.get("content-type") ?? "").toLowerCase().includes("json");
}

/** Whether a server that was paid may end with this status: anything but a further toll or a redirect. */
export function handsOver(status: number): boolean {
  return status >= 200 && status !== STATUS && !(status >= 300 && status < 400);
}

/** The whole body; `TollMalformed` where it is larger than any toll, as soon as that is known. */
export async function readBounded(response: Response): Promise<Bytes> {
  const refusal = new TollMalformed(`the toll is larger than ${MAX_TOLL_BYTES} bytes`);
  if (Number(response.headers.get("content-length")) > MAX_TOLL_BYTES) {
    void response.body?.cancel().catch(() => {});
    throw refusal;
  }
  const reader = response.body?.getReader();
  const chunks: Uint8Array[] = [];
  let left = MAX_TOLL_BYTES;
  for (let step = await reader?.read(); step && !step.done; step = await reader!.read()) {
    left -= step.value.length;
    if (left < 0) {
      void reader!.cancel().catch(() => {});
      throw refusal;
    }
    chunks.push(step.value);
  }
  return concat(chunks);
}

/** The headers that a redemption takes over from the request whose answer it fetches. */
export function redeemingHeaders(asked: Headers): Headers {
  const headers = without(asked, OF_THE_REQUEST);
  headers.set("content-type", "application/json");
  return headers;
}

/** A response that was read, as it was before. */
export function replayed(came: Response, body: Bytes): Response {
  const { status, statusText, headers } = came;
  return placed(new Response(body, { status, statusText, headers }), came);
}

/** A response that carries the answer, with the other headers of the 402 that it came in. */
export function rebuilt(came: Response, answer: Answer): Response {
  const { status, contentType, body } = answer;
  if (!handsOver(status)) {
    throw new SealBroken(`the seal holds no answer, but status ${status}: a redirect, or a toll on a toll`);
  }
  const headers = without(came.headers, OF_THE_TOLL);
  headers.set("content-length", String(body.length));
  const [, type, length] = FOLDED.exec(contentType) ?? [];
  if (contentType) headers.set("content-type", type ?? contentType);
  if (length) headers.set(BINARY_HEADER, length);
  return placed(new Response(WITHOUT_BODY.includes(status) ? null : body, { status, headers }), came);
}

/** A 402 that says why a toll was not paid, for those who would try again after an error. */
export function refused(error: Error): Response {
  const said = { message: error.message, type: error.name, code: "toll_not_paid" };
  const document = { title: "Toll not paid", status: STATUS, detail: error.message, error: said };
  return new Response(JSON.stringify(document), { status: STATUS, headers: { "content-type": "application/json" } });
}

function without(headers: Headers, names: readonly string[]): Headers {
  const kept = new Headers(headers);
  for (const name of names) kept.delete(name);
  return kept;
}

/** The same response, said to come from where the other came. */
function placed(response: Response, came: Response): Response {
  return Object.defineProperties(response, {
    url: { value: came.url },
    redirected: { value: came.redirected },
    type: { value: came.type },
  });
}
