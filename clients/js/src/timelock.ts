/** Repeated squaring modulo N (Rivest, Shamir and Wagner 1996): x^(2^T), one squaring after the other. */

import { concat, fromInteger, toInteger } from "./bytes.js";
import type { Bytes } from "./records.js";
import { MODULUS_BYTES } from "./wire.js";

const BASE_LABEL = new TextEncoder().encode("modeltoll timelock base v1");
const VALUE_LABEL = new TextEncoder().encode("modeltoll timelock value v1");
const BASE_BLOCKS = MODULUS_BYTES / 32 + 1; // of SHA-256: one more than N has, so that x is nearly uniform below N

async function sha256(...pieces: Uint8Array[]): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(pieces)));
}

/** x: SHA-256(label || seed || i) for i = 0 to 8 (one byte each), concatenated as a big-endian integer, modulo N. */
export async function timelockBase(seed: Bytes, modulus: bigint): Promise<bigint> {
  const blocks = Array.from({ length: BASE_BLOCKS }, (_, block) => sha256(BASE_LABEL, seed, Uint8Array.of(block)));
  return toInteger(concat(await Promise.all(blocks))) % modulus;
}

/** F: SHA-256(label || x^(2^T), 256 bytes big-endian). */
export function timelockValue(result: bigint): Promise<Bytes> {
  return sha256(VALUE_LABEL, fromInteger(result, MODULUS_BYTES));
}
