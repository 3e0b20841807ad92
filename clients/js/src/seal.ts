/** Opens what the toll house sealed: nonce (12 bytes) || AES-256-GCM, under HKDF-SHA256 of the parts' secrets. */

import { SealBroken, TollError } from "./errors.js";
import type { Answer, Bytes, Solution } from "./records.js";

const NONCE_BYTES = 12;
const LABEL = new TextEncoder().encode("modeltoll seal v1");
const PRINTABLE = /^[ -~]*$/;

/**
 * The answer in `cargo`. `associated` is the canonical form of the challenge.
 *
 * Throws `SealBroken` for another solution, another challenge or any byte changed.
 */
export async function openSeal(cargo: Bytes, solution: Solution, associated: Bytes): Promise<Answer> {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) throw new TollError("sealed answers need WebCrypto, which a page has over https or on localhost only");
  const secret = await subtle.importKey("raw", solution.secret, "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: LABEL };
  const key = await subtle.deriveKey(derivation, secret, { name: "AES-GCM", length: 256 }, false, ["decrypt"]);
  const opening = { name: "AES-GCM", iv: cargo.subarray(0, NONCE_BYTES), additionalData: associated };
  let text: ArrayBuffer;
  try {
    text = await subtle.decrypt(opening, key, cargo.subarray(NONCE_BYTES));
  } catch {
    throw new SealBroken("the solution does not open the seal");
  }
  return unpack(new Uint8Array(text));
}

/** Length of the content type (2 bytes, big-endian), content type (ASCII), status (2 bytes), body. */
function unpack(text: Bytes): Answer {
  const head = 2 + ((text[0] ?? 0) << 8) + (text[1] ?? 0);
  const contentType = String.fromCharCode(...text.subarray(2, head));
  const status = ((text[head] ?? 0) << 8) + (text[head + 1] ?? 0);
  if (text.length < head + 2 || !PRINTABLE.test(contentType) || status < 100 || status > 599) {
    throw new SealBroken("what was sealed is not an answer");
  }
  return { status, contentType, body: text.subarray(head + 2) };
}
