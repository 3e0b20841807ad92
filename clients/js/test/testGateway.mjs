/** A toll house on a real socket: it makes tolls as the gateway does and remembers all that it was asked. */

import { createServer } from "node:http";
import { evaluator } from "../build/argon2id.js";
import { counterBytes, encodeBase64url } from "../build/bytes.js";
import { canonicalChallenge, decodeChallenge, REDEEM_PATH } from "../build/wire.js";

export const KEY = "Bearer the-key-of-this-house";
export const ANSWER = { status: 200, type: "application/json", body: Buffer.from('{"p": [0.9, 0.1]}') };
const LABEL = new TextEncoder().encode("modeltoll seal v1");

/** F(n), as any maker of puzzles has it. */
async function value(seed, n, memoryKib) {
  if (memoryKib) return (await evaluator(memoryKib))(seed, n);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", Buffer.concat([seed, counterBytes(n)])));
}

async function seal(secret, associated, answer) {
  const raw = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: LABEL };
  const key = await crypto.subtle.deriveKey(derivation, raw, { name: "AES-GCM", length: 256 }, false, ["encrypt"]);
  const head = Buffer.from([answer.type.length >> 8, answer.type.length & 255]);
  const status = Buffer.from([answer.status >> 8, answer.status & 255]);
  const text = Buffer.concat([head, Buffer.from(answer.type, "ascii"), status, answer.body]);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const cipher = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: associated }, key, text);
  return Buffer.concat([iv, new Uint8Array(cipher)]);
}

/** The document of a 402, and the counters that solve it. `bound` may be larger than the counters need. */
export async function makeToll(answer = ANSWER, options = {}) {
  const { mode = "sealed", memoryKib = 0, counters = [7], bound = 16, start = 0 } = options;
  const made = counters.map(async (n) => {
    const seed = crypto.getRandomValues(new Uint8Array(16));
    const f = await value(seed, start + n, memoryKib);
    const part = { seed: encodeBase64url(seed), n: bound, check: encodeBase64url(f.subarray(0, 16)) };
    return { secret: f.subarray(16), part: start ? { ...part, start } : part };
  });
  const parts = await Promise.all(made);
  const cost = memoryKib ? { m_kib: memoryKib, t: 1, p: 1 } : {};
  const puzzle = { name: memoryKib ? "argon2id" : "sha256", ...cost, parts: parts.map(({ part }) => part) };
  const cargo =
    mode === "sealed"
      ? await seal(
          Buffer.concat(parts.map(({ secret }) => secret)),
          canonicalChallenge(decodeChallenge(puzzle), mode),
          answer,
        )
      : Buffer.from(`token of ${counters}`);
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
    "x-served-by": "toll house",
  });
  response.end(typeof document === "string" ? document : JSON.stringify(document));
}

export class House {
  handlers = {};
  seen = [];
  url = "";

  /** A server that answers each path as its handler `(request, response, body)` does. */
  static async open() {
    const house = new House();
    const server = createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const body = Buffer.concat(chunks).toString();
      const path = new URL(request.url, house.url).pathname;
      house.seen.push({ method: request.method, path, headers: request.headers, body });
      const handler = house.handlers[path] ?? ((_, nothing) => nothing.writeHead(404).end("no such page"));
      await handler(request, response, body);
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    house.url = `http://127.0.0.1:${server.address().port}`;
    house.close = () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    };
    return house;
  }

  reset() {
    this.handlers = {};
    this.seen = [];
    return this;
  }

  /** Answer always the same document with 402; the URL. */
  offer(document, path = "/infer") {
    this.handlers[path] = (_request, response) => send402(response, document);
    return this.url + path;
  }

  /** Ask a toll for an answer, in the mode that the client wishes; the URL. */
  sell(answer = ANSWER, options = {}, path = "/infer") {
    this.handlers[path] = async (request, response) => {
      const mode = (request.headers["toll-accept"] ?? "").includes("mode=redeem") ? "redeem" : "sealed";
      send402(response, await makeToll(answer, { mode, ...options }));
    };
    this.handlers[REDEEM_PATH] = (request, response, body) => {
      const { token, solution } = JSON.parse(body);
      const solved = Buffer.from(token, "base64url").toString() === `token of ${solution}`;
      if (!solved || request.headers.authorization !== KEY) return response.writeHead(403).end("refused");
      response.writeHead(answer.status, { "content-type": answer.type, "x-redeemed": "yes" }).end(answer.body);
    };
    return this.url + path;
  }

  /** What was asked for, in order. */
  paths() {
    return this.seen.map(({ path }) => path);
  }
}
