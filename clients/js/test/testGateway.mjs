/** A server on a real socket that makes tolls as the gateway does, and records the requests that it receives. */

import { createServer } from "node:http";
import { createEvaluator } from "../build/argon2id.js";
import { counterBytes, encodeBase64url } from "../build/bytes.js";
import { canonicalChallenge, decodeChallenge, REDEEM_PATH } from "../build/wire.js";

export const KEY = "Bearer test-key";
export const ANSWER = { status: 200, type: "application/json", body: Buffer.from('{"p": [0.9, 0.1]}') };
const LABEL = new TextEncoder().encode("modeltoll seal v1");

/** F(n). */
async function evaluate(seed, n, memoryKib) {
  if (memoryKib) return (await createEvaluator(memoryKib))(seed, n);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", Buffer.concat([seed, counterBytes(n)])));
}

async function seal(secret, associated, answer) {
  const raw = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: LABEL };
  const key = await crypto.subtle.deriveKey(derivation, raw, { name: "AES-GCM", length: 256 }, false, ["encrypt"]);
  const typeLength = Buffer.from([answer.type.length >> 8, answer.type.length & 255]);
  const status = Buffer.from([answer.status >> 8, answer.status & 255]);
  const plaintext = Buffer.concat([typeLength, Buffer.from(answer.type, "ascii"), status, answer.body]);
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

/** The document of a 402 whose solution is `counters`. `bound` may be larger than they need. */
export async function makeToll(answer = ANSWER, options = {}) {
  const { mode = "sealed", memoryKib = 0, counters = [7], bound = 16, start = 0 } = options;
  const parts = await Promise.all(counters.map((n) => makePart(n, { memoryKib, bound, start })));
  const cost = memoryKib ? { m_kib: memoryKib, t: 1, p: 1 } : {};
  const puzzle = { name: memoryKib ? "argon2id" : "sha256", ...cost, parts: parts.map(({ part }) => part) };
  const secret = Buffer.concat(parts.map((each) => each.secret));
  const cargo =
    mode === "sealed"
      ? await seal(secret, canonicalChallenge(decodeChallenge(puzzle), mode), answer)
      : Buffer.from(`token of ${counters.join()}`);
  const toll = {
    v: 1,
    mode,
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
      send402(response, await makeToll(answer, { mode, ...options }));
    };
    this.handlers[REDEEM_PATH] = (request, response, body) => {
      const { token, solution } = JSON.parse(body);
      const isSolved = Buffer.from(token, "base64url").toString() === `token of ${solution}`;
      if (isSolved && request.headers.authorization === KEY) {
        response.writeHead(answer.status, { "content-type": answer.type, "x-redeemed": "yes" }).end(answer.body);
      } else {
        response.writeHead(403).end("refused");
      }
    };
    return this.url + path;
  }

  /** The paths of all requests, in order. */
  paths() {
    return this.requests.map(({ path }) => path);
  }
}
