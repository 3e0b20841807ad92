/** Reads JSON from a peer that may be hostile, member by member; an invalid member is `TollMalformed`. */

import { decodeBase64url } from "./bytes.js";
import { TollMalformed } from "./errors.js";
import type { Bytes } from "./records.js";

export type JsonObject = Readonly<Record<string, unknown>>;

export const MAX_VALUES = 10_000; // JSON of many small values takes many times its own size in memory
const COMMA = 44;
const BRACKET = 91;
const BRACE = 123;

/** Any JSON of at most `MAX_VALUES` values; undefined if the body is none. */
export function parseJson(body: Uint8Array): unknown {
  let values = 0;
  for (const byte of body) {
    if (byte === COMMA || byte === BRACKET || byte === BRACE) values++;
  }
  if (values > MAX_VALUES) return undefined;
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** An integer within `low` and `high`, small enough to be exact. */
export function readInteger(members: JsonObject, name: string, low: number, high: number): number {
  const value = members[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < low || value > high) {
    throw new TollMalformed(`the toll's '${name}' is not an integer within ${low}..${high}`);
  }
  return value;
}

/** Bytes from strict base64url; `size` is their number, if it is fixed. */
export function readBytes(members: JsonObject, name: string, size?: number): Bytes {
  const text = members[name];
  const data = typeof text === "string" ? decodeBase64url(text) : null;
  if (data === null) throw new TollMalformed(`the toll's '${name}' is not base64url`);
  if (size !== undefined && data.length !== size) {
    throw new TollMalformed(`the toll's '${name}' is not ${size} bytes long`);
  }
  return data;
}
