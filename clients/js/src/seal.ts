/**
 * What the secret of a solution gives: the key of a sealed answer, and the proof that redeems a token.
 *
 * Sealed answer: nonce (12 bytes) || AES-256-GCM, under HKDF-SHA256 of the parts' secrets.
 */

import { isZero } from "./bytes.js";
import { globals } from "./environment.js";
import { SealBroken, TollError } from "./errors.js";
import type { Answer, Bytes, OpenedSeal, Solution } from "./records.js";

const NONCE_BYTES = 12;
const KEY_BYTES = 32;
const SEAL_LABEL = new TextEncoder().encode("modeltoll seal v2");
const PROOF_LABEL = new TextEncoder().encode("modeltoll proof v2");
const PRINTABLE = /^[ -~]*$/;

/** WebCrypto, without which no answer is opened and no token redeemed. Throws `TollError` where there is none. */
export function requireWebCrypto(): SubtleCrypto {
  const crypto: Partial<Crypto> | undefined = globals.crypto;
  const subtle: SubtleCrypto | undefined = crypto?.subtle;
  if (!subtle) throw new TollError("tolls need WebCrypto, which a page has over https or on localhost only");
  return subtle;
}

/**
 * The answer and the receipt in `cargo`. `associated` is the canonical form of the challenge.
 *
 * Rejects with `SealBroken` for another solution, another challenge, any byte changed, or content of another form.
 */
export async function openSeal(cargo: Bytes, solution: Solution, associated: Bytes): Promise<OpenedSeal> {
  const subtle = requireWebCrypto();
  const key = await subtle.importKey("raw", await derive(solution, SEAL_LABEL), "AES-GCM", false, ["decrypt"]);
  const decryption = { name: "AES-GCM", iv: cargo.subarray(0, NONCE_BYTES), additionalData: associated };
  let plaintext: ArrayBuffer;
  try {
    plaintext = await subtle.decrypt(decryption, key, cargo.subarray(NONCE_BYTES));
  } catch {
    throw new SealBroken("the solution does not open the seal");
  }
  return decodeContent(new Uint8Array(plaintext));
}

/** What a client sends to redeem a token: 32 bytes, which nobody has who did not evaluate F. */
export function proofOf(solution: Solution): Promise<Bytes> {
  return derive(solution, PROOF_LABEL);
}

async function derive(solution: Solution, info: Bytes): Promise<Bytes> {
  const subtle = requireWebCrypto();
  const secret = await subtle.importKey("raw", solution.secret, "HKDF", false, ["deriveBits"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info };
  return new Uint8Array(await subtle.deriveBits(derivation, secret, 8 * KEY_BYTES));
}

/** Reads a plaintext from its start; reading beyond its end is `SealBroken`. */
class PlaintextReader {
  private at = 0;

  constructor(private readonly plaintext: Bytes) {}

  bytes(count: number): Bytes {
    if (count > this.plaintext.length - this.at) throw notAnAnswer();
    this.at += count;
    return this.plaintext.subarray(this.at - count, this.at);
  }

  /** A big-endian integer of that many bytes. */
  integer(size: number): number {
    return this.bytes(size).reduce((value, byte) => 256 * value + byte, 0);
  }

  /** Everything that was not read yet. */
  rest(): Bytes {
    return this.plaintext.subarray(this.at);
  }
}

/**
 * Length of the content type (2 bytes, big-endian), content type (ASCII), status (2), length of the receipt (2), receipt,
 * length of the body (8), body, and zeros up to a length that does not depend on the answer.
 */
function decodeContent(plaintext: Bytes): OpenedSeal {
  const reader = new PlaintextReader(plaintext);
  const contentType = String.fromCharCode(...reader.bytes(reader.integer(2)));
  const status = reader.integer(2);
  const receipt = reader.bytes(reader.integer(2)).slice();
  const body = reader.bytes(reader.integer(8));
  if (!PRINTABLE.test(contentType) || status < 100 || status > 599 || !isZero(reader.rest())) {
    throw notAnAnswer();
  }
  const answer: Answer = { status, contentType, body };
  return { answer, receipt };
}

function notAnAnswer(): SealBroken {
  return new SealBroken("the content of the seal is not an answer");
}
