/** Opens sealed answers: nonce (12 bytes) || AES-256-GCM, under HKDF-SHA256 of the parts' secrets. */

import { globals } from "./environment.js";
import { SealBroken, TollError } from "./errors.js";
import type { Answer, Bytes, Solution } from "./records.js";

const NONCE_BYTES = 12;
const LABEL = new TextEncoder().encode("modeltoll seal v1");
const PRINTABLE = /^[ -~]*$/;

/**
 * The answer in `cargo`. `associated` is the canonical form of the challenge.
 *
 * Rejects with `SealBroken` for another solution, another challenge or any byte changed.
 */
export async function openSeal(cargo: Bytes, solution: Solution, associated: Bytes): Promise<Answer> {
  const crypto: Partial<Crypto> | undefined = globals.crypto;
  const subtle = crypto?.subtle;
  if (!subtle) throw new TollError("sealed answers need WebCrypto, which a page has over https or on localhost only");
  const secret = await subtle.importKey("raw", solution.secret, "HKDF", false, ["deriveKey"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: LABEL };
  const key = await subtle.deriveKey(derivation, secret, { name: "AES-GCM", length: 256 }, false, ["decrypt"]);
  const decryption = { name: "AES-GCM", iv: cargo.subarray(0, NONCE_BYTES), additionalData: associated };
  let plaintext: ArrayBuffer;
  try {
    plaintext = await subtle.decrypt(decryption, key, cargo.subarray(NONCE_BYTES));
  } catch {
    throw new SealBroken("the solution does not open the seal");
  }
  return decodeAnswer(new Uint8Array(plaintext));
}

/** Length of the content type (2 bytes, big-endian), content type (ASCII), status (2 bytes), body. */
function decodeAnswer(plaintext: Bytes): Answer {
  const statusAt = 2 + ((plaintext[0] ?? 0) << 8) + (plaintext[1] ?? 0);
  const contentType = String.fromCharCode(...plaintext.subarray(2, statusAt));
  const status = ((plaintext[statusAt] ?? 0) << 8) + (plaintext[statusAt + 1] ?? 0);
  if (plaintext.length < statusAt + 2 || !PRINTABLE.test(contentType) || status < 100 || status > 599) {
    throw new SealBroken("the content of the seal is not an answer");
  }
  return { status, contentType, body: plaintext.subarray(statusAt + 2) };
}
