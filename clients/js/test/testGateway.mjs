/** A server on a real socket that makes tolls as the gateway does, and records the requests that it receives. */

import { createServer } from "node:http";
import { createEvaluator } from "../build/argon2id.js";
import { counterBytes, encodeBase64url } from "../build/bytes.js";
import { proofOf } from "../build/seal.js";
import { canonicalChallenge, decodeChallenge } from "../build/wire.js";

export const KEY = "Bearer test-key";
export const ANSWER = { status: 200, type: "application/json", body: Buffer.from('{"p": [0.9, 0.1]}') };
export const REDEEM_PATH = "/.well-known/modeltoll/redeem";
export const SETTLE_PATH = "/.well-known/modeltoll/settle";
const LABEL = new TextEncoder().encode("modeltoll seal v2");

/** F(n). */
async function evaluate(seed, n, memoryKib) {
  if (memoryKib) return (await createEvaluator(memoryKib))(seed, n);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", Buffer.concat([seed, counterBytes(n)])));
}

/** A big-endian integer of that many bytes. */
function integer(value, size) {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(value, size - Math.min(size, 6), Math.min(size, 6));
  return bytes;
}

/** What is sealed; `length` pads it with zeros, or with `padding`. */
export function plaintextOf(answer, { receipt = Buffer.alloc(0), length = 0, padding = 0 } = {}) {
  const type = Buffer.from(answer.type, "ascii");
  const content = Buffer.concat([
    integer(type.length, 2),
    type,
    integer(answer.status, 2),
    integer(receipt.length, 2),
    receipt,
    integer(answer.body.length, 8),
    answer.body,
  ]);
  return Buffer.concat([content, Buffer.alloc(Math.max(0, length - content.length), padding)]);
}

export async function seal(secret, associated, plaintext) {
  const raw = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: LABEL };
  const key = await crypto.subtle.deriveKey(derivation, raw, { name: "AES-GCM", length: 256 }, false, ["encrypt"]);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const ciphertext = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: associated }, key, plaintext);
  return Buffer.concat([iv, new Uint8Array(ciphertext)]);
}

async function makePart(n, { memoryKib, bound, start }) {
  const seed = crypto.getRandomValues(new Uint8Array(16));
  const f = await evaluate(seed, start + n, memoryKib);
  const part = { seed: encodeBase64url(seed), n: bound, check: encodeBase64url(f.subarray(0, 16)) };
  return { secret: f.subarray(16), part: start ? { ...part, start } : part };
}

/** The relative reference from a request's path to a path of the gateway. */
export function referenceTo(target, path) {
  return "../".repeat(path.split("/").length - 2) + target.slice(1);
}

/**
 * The document of a 402 whose solution is `counters`. `bound` may be larger than they need. `path` is that of the
 * request; sealed tolls have the `receipt`, if there is one, and `plaintext` in place of the answer's.
 */
export async function makeToll(answer = ANSWER, options = {}) {
  const { mode = "sealed", memoryKib = 0, counters = [7], bound = 16, start = 0 } = options;
  const { path = "/infer", receipt, length, padding, plaintext, admission } = options;
  const parts = await Promise.all(counters.map((n) => makePart(n, { memoryKib, bound, start })));
  const cost = memoryKib ? { m_kib: memoryKib, t: 1, p: 1 } : {};
  const puzzle = { name: memoryKib ? "argon2id" : "sha256", ...cost, parts: parts.map(({ part }) => part) };
  const secret = Buffer.concat(parts.map((each) => each.secret));
  const cargo =
    mode === "sealed"
      ? await seal(
          secret,
          canonicalChallenge(decodeChallenge(puzzle), mode),
          plaintext ?? plaintextOf(answer, { receipt, length, padding }),
        )
      : Buffer.from(`token of ${encodeBase64url(await proofOf({ counters, secret }))}`);
  const toll = {
    v: 2,
    id: parts[0].part.seed,
    mode,
    ...(mode === "redeem" && { redeem: referenceTo(REDEEM_PATH, path) }),
    ...(receipt && { settle: referenceTo(SETTLE_PATH, path) }),
    ...(admission && { admission }),
    rows: 1,
    typical_seconds: 0.01,
    [mode === "sealed" ? "sealed" : "token"]: encodeBase64url(cargo),
  };
  return {
    type: "urn:modeltoll:problems:toll",
    title: "Toll",
    status: 402,
    error: "a toll is due",
    toll: { ...toll, puzzle },
  };
}

/** Send a document as a 402. */
export function send402(response, document) {
  response.writeHead(402, {
    "content-type": "application/json",
    "cache-control": "no-store",
    "x-served-by": "test gateway",
  });
  response.end(typeof document === "string" ? document : JSON.stringify(document));
}

export class TestGateway {
  handlers = {};
  requests = [];
  probeStatus = 204; // of a redemption of nothing, by which clients ask whether the path leads to a gateway
  url = "";
  server = createServer((request, response) => this.handle(request, response));

  /** A server that answers each path with its handler `(request, response, body)`. */
  static async open() {
    const gateway = new TestGateway();
    await new Promise((resolve) => gateway.server.listen(0, "127.0.0.1", resolve));
    gateway.url = `http://127.0.0.1:${gateway.server.address().port}`;
    return gateway;
  }

  async handle(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const path = new URL(request.url, this.url).pathname;
    if (path.endsWith(REDEEM_PATH) && body === "{}") {
      response.writeHead(this.probeStatus, { "access-control-allow-origin": "*" }).end();
      return;
    }
    this.requests.push({ method: request.method, path, headers: request.headers, body });
    const handler = this.handlers[path];
    if (handler) await handler(request, response, body);
    else response.writeHead(404).end("no such page");
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  reset() {
    this.handlers = {};
    this.requests = [];
    this.probeStatus = 204;
    return this;
  }

  /** Answer with a 402 of that document; returns the URL. */
  serve402(document, path = "/infer") {
    this.handlers[path] = (_request, response) => send402(response, document);
    return this.url + path;
  }

  /** Ask a toll for an answer, in the mode that the client announces; returns the URL. */
  serveToll(answer = ANSWER, options = {}, path = "/infer") {
    this.handlers[path] = async (request, response) => {
      const mode = (request.headers["toll-accept"] ?? "").includes("mode=redeem") ? "redeem" : "sealed";
      send402(response, await makeToll(answer, { mode, path, ...options }));
    };
    this.handlers[REDEEM_PATH] = (request, response, body) => {
      const { token, proof } = JSON.parse(body);
      const isSolved = Buffer.from(token, "base64url").toString() === `token of ${proof}`;
      if (isSolved && request.headers.authorization === KEY) {
        response.writeHead(answer.status, { "content-type": answer.type, "x-redeemed": "yes" }).end(answer.body);
      } else {
        response.writeHead(403).end("refused");
      }
    };
    return this.url + path;
  }

  /**
   * Ask sealed tolls with a receipt each at `prefix` + "/infer", and count the receipts that are returned. `settled` are
   * those of the requests that were answered, and of the posted ones; `posts` has the number of receipts in each POST.
   * `refuse` may answer a request otherwise, and then returns true; its receipts are not counted.
   */
  serveSettling({ prefix = "", refuse = async () => false, answer = ANSWER, options = {} } = {}) {
    const state = { issued: [], settled: [], posts: [], headers: [] };
    this.handlers[`${prefix}/infer`] = async (request, response) => {
      const returned = request.headers["toll-settle"]?.split(", ") ?? [];
      state.headers.push(returned);
      if (await refuse(request, response, returned)) return;
      state.settled.push(...returned);
      const receipt = Buffer.from(crypto.getRandomValues(new Uint8Array(110)));
      state.issued.push(receipt.toString("base64url"));
      send402(response, await makeToll(answer, { receipt, ...options }));
    };
    this.handlers[prefix + SETTLE_PATH] = (request, response, body) => {
      const { receipts } = JSON.parse(body);
      state.posts.push(receipts.length);
      state.settled.push(...receipts);
      response.writeHead(204).end();
    };
    return { url: `${this.url}${prefix}/infer`, ...state };
  }

  /** The paths of all requests, in order. */
  paths() {
    return this.requests.map(({ path }) => path);
  }
}
