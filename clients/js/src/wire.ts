/**
 * Header names, encodings and the protocol's version. No other module has them.
 *
 * The input may come from a hostile peer: each member's type, range and size is checked before it is used.
 */

import { encodeBase64url } from "./bytes.js";
import { TollMalformed } from "./errors.js";
import { isObject, type JsonObject, parseJson, readBytes, readInteger } from "./json.js";
import type { Bytes, Challenge, Mode, Part, PuzzleName, Toll } from "./records.js";

export const VERSION = 2;
export const STATUS = 402;
export const ACCEPT_HEADER = "Toll-Accept";
export const SETTLE_HEADER = "Toll-Settle";
export const SETTLE_PATH = ".well-known/modeltoll/settle"; // below the gateway's root
export const REDEEM_PROBE = "{}"; // posted to the redeem path before work: 204 if it leads to a gateway
export const RECEIPT_HEADER = "Toll-Receipt"; // of the gateway's free answers
export const MAX_HEADER_RECEIPTS = 16;
export const MAX_SETTLEMENT_RECEIPTS = 64;
export const MAX_RECEIPT_BYTES = 256;
export const MAX_TOLL_BYTES = 88 * 2 ** 20; // a 402 with a sealed answer of 64 MiB
export const MODULUS_BYTES = 256;

/** All puzzles, the preferred first. Hashcash is for redeem mode only: its solution is no secret. */
export const PUZZLES: readonly PuzzleName[] = ["argon2id", "sha256", "hashcash", "timelock"];

const MAX_PARTS = 16;
const MAX_BOUND = Number.MAX_SAFE_INTEGER;
const MAX_MEMORY_KIB = 256 * 1024;
const SEED_BYTES = 16;
const CHECK_BYTES = 16;
const MAX_TYPICAL_SECONDS = 1e9;
const REFERENCE = /^(?:\.\.\/){0,64}\.well-known\/modeltoll\/(redeem|settle)$/;

/** Whether such a puzzle can open a toll of that mode. */
export function supportsMode(puzzle: PuzzleName, mode: Mode): boolean {
  return puzzle !== "hashcash" || mode === "redeem";
}

/** The value of `Toll-Accept`: `argon2id, sha256; mode=sealed; memory=64MiB; receipts`. */
export function formatAccept(puzzles: readonly PuzzleName[], mode: Mode, memoryMib: number): string {
  const names = puzzles.filter((name) => supportsMode(name, mode)).join(", ");
  return `${names}; mode=${mode}; memory=${Math.floor(memoryMib)}MiB; receipts`;
}

/** The value of `Toll-Settle`: at most `MAX_HEADER_RECEIPTS` receipts. */
export function formatSettle(receipts: readonly Uint8Array[]): string {
  return receipts.map(encodeBase64url).join(", ");
}

/** The body that a client posts to the settle path: 1 to `MAX_SETTLEMENT_RECEIPTS` receipts. */
export function encodeSettlement(receipts: readonly Uint8Array[]): string {
  return JSON.stringify({ receipts: receipts.map(encodeBase64url) });
}

/** The bytes that every seal covers: version, mode and the whole puzzle, as ASCII JSON with sorted keys. */
export function canonicalChallenge(challenge: Challenge, mode: Mode): Bytes {
  const { puzzle, memoryKib, modulus } = challenge;
  const isArgon2id = puzzle === "argon2id";
  const members = {
    ...(isArgon2id && { m_kib: memoryKib }),
    ...(modulus && { modulus: encodeBase64url(modulus) }),
    name: puzzle,
    ...(isArgon2id && { p: 1 }),
    parts: challenge.parts.map(encodePart),
    ...(isArgon2id && { t: 1 }),
  };
  return new TextEncoder().encode(JSON.stringify({ mode, puzzle: members, v: VERSION }));
}

function encodePart(part: Part): JsonObject {
  return {
    ...(part.check && { check: encodeBase64url(part.check) }),
    n: part.bound,
    seed: encodeBase64url(part.seed),
    ...(part.start && { start: part.start }),
  };
}

/**
 * The toll in the body of a 402, or null if the body is no toll (another kind of 402 may ask money).
 *
 * Throws `TollMalformed` if a member is missing, of the wrong type or out of range.
 */
export function findToll(body: Uint8Array): Toll | null {
  const document = parseJson(body);
  const members = isObject(document) ? document["toll"] : undefined;
  return isObject(members) ? decodeToll(members) : null;
}

function decodeToll(members: JsonObject): Toll {
  if (members["v"] !== VERSION) throw new TollMalformed(`the toll is not of version ${VERSION}`);
  const mode = members["mode"];
  if (mode !== "sealed" && mode !== "redeem")
    throw new TollMalformed("the toll's 'mode' is neither 'sealed' nor 'redeem'");
  const typical = members["typical_seconds"];
  if (typeof typical !== "number" || !(typical >= 0 && typical <= MAX_TYPICAL_SECONDS)) {
    throw new TollMalformed("the toll's 'typical_seconds' is not a number of seconds");
  }
  const challenge = decodeChallenge(members["puzzle"]);
  if (!supportsMode(challenge.puzzle, mode)) {
    throw new TollMalformed(`a ${challenge.puzzle} puzzle cannot open a toll of mode ${mode}`);
  }
  return {
    mode,
    challenge,
    cargo: readBytes(members, mode === "sealed" ? "sealed" : "token"),
    rows: readInteger(members, "rows", 1, MAX_BOUND),
    typicalSeconds: typical,
    admission: mode === "redeem" && members["admission"] === true,
    reference: mode === "redeem" || "settle" in members ? readReference(members, mode) : "",
  };
}

/** Where a token is redeemed, or a receipt returned: the only paths to which a toll may refer. */
function readReference(members: JsonObject, mode: Mode): string {
  const name = mode === "redeem" ? "redeem" : "settle";
  const reference = members[name];
  if (typeof reference !== "string" || REFERENCE.exec(reference)?.[1] !== name) {
    throw new TollMalformed(`the toll's '${name}' is not a relative reference to the gateway's path for it`);
  }
  return reference;
}

/** Parse and check the `puzzle` member of a toll; throws `TollMalformed`. */
export function decodeChallenge(members: unknown): Challenge {
  if (!isObject(members)) throw new TollMalformed("the toll's puzzle is not an object");
  const puzzle = PUZZLES.find((name) => name === members["name"]);
  if (!puzzle) throw new TollMalformed("the toll names a puzzle that this client does not know");
  const entries = members["parts"];
  if (!Array.isArray(entries) || entries.length < 1 || entries.length > MAX_PARTS) {
    throw new TollMalformed(`the toll's puzzle does not have 1..${MAX_PARTS} parts`);
  }
  const parts = entries.map((entry) => decodePart(entry, puzzle));
  if (new Set(parts.map((part) => encodeBase64url(part.seed))).size !== parts.length) {
    throw new TollMalformed("the toll's puzzle repeats a seed");
  }
  const modulus = puzzle === "timelock" ? decodeModulus(members) : null;
  if (puzzle !== "argon2id") return { puzzle, parts, memoryKib: 0, modulus };
  const memoryKib = readInteger(members, "m_kib", 8, MAX_MEMORY_KIB);
  readInteger(members, "t", 1, 1);
  readInteger(members, "p", 1, 1);
  return { puzzle, parts, memoryKib, modulus };
}

function decodePart(part: unknown, puzzle: PuzzleName): Part {
  if (!isObject(part)) throw new TollMalformed("a part of the toll's puzzle is not an object");
  const check = puzzle === "hashcash" ? null : readBytes(part, "check", CHECK_BYTES);
  const bound = readInteger(part, "n", 1, MAX_BOUND);
  const highest = puzzle === "argon2id" ? MAX_BOUND - bound : 0; // only argon2id puzzles are precomputed
  const start = "start" in part ? readInteger(part, "start", 1, highest) : 0; // 0 is encoded by leaving it out
  return { seed: readBytes(part, "seed", SEED_BYTES), bound, check, start };
}

function decodeModulus(members: JsonObject): Bytes {
  const modulus = readBytes(members, "modulus", MODULUS_BYTES);
  const [first = 0] = modulus;
  const last = modulus.at(-1) ?? 0;
  if (!(first & 0x80 && last & 1)) {
    throw new TollMalformed("the toll's 'modulus' is not an odd number of 2048 bits");
  }
  return modulus;
}

/** The body that a client posts to the redeem path: a proof, or where the puzzle has no secret (hashcash) counters. */
export function encodeRedemption(
  token: Uint8Array,
  solved: { proof: Uint8Array } | { counters: readonly number[] },
): string {
  const member = "proof" in solved ? { proof: encodeBase64url(solved.proof) } : { solution: solved.counters };
  return JSON.stringify({ token: encodeBase64url(token), ...member });
}
