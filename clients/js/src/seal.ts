/**
 * What the secret of a solution gives: the key of a sealed answer, and the proof that redeems a token.
 *
 * Sealed answer: nonce (12 bytes) || AES-256-GCM, under HKDF-SHA256 of the parts' secrets.
 */

import { createHMAC, createSHA256 } from "hash-wasm";
import { isZero } from "./bytes.js";
import { globals } from "./environment.js";
import { SealBroken, TollError } from "./errors.js";
import type { Answer, Bytes, OpenedSeal, Solution } from "./records.js";

const NONCE_BYTES = 12;
const KEY_BYTES = 32;
const SEAL_LABEL = new TextEncoder().encode("modeltoll seal v2");
const PROOF_LABEL = new TextEncoder().encode("modeltoll proof v2");
const PRINTABLE = /^[ -~]*$/;

/** Whether there is WebCrypto: a page that came over plain http has none, unless its host is localhost. */
export function hasWebCrypto(): boolean {
  return webCrypto() !== undefined;
}

function webCrypto(): SubtleCrypto | undefined {
  const crypto: Partial<Crypto> | undefined = globals.crypto;
  return crypto?.subtle;
}

/** WebCrypto, without which no seal is opened. Throws `TollError` where there is none. */
export function requireWebCrypto(): SubtleCrypto {
  const subtle = webCrypto();
  if (!subtle) {
    throw new TollError(
      "sealed answers need WebCrypto, which a page has over https or on localhost only: serve the page so, or leave the mode to the client",
    );
  }
  return subtle;
}

/**
 * The answer and the receipt in `cargo`. `associated` is the canonical form of the challenge.
 *
 * Rejects with `SealBroken` for another solution, another challenge, any byte changed, or content of another form.
 */
export async function openSeal(cargo: Bytes, solution: Solution, associated: Bytes): Promise<OpenedSeal> {
  const subtle = requireWebCrypto();
  const key = await subtle.importKey("raw", await derive(solution, SEAL_LABEL, subtle), "AES-GCM", false, ["decrypt"]);
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
  const subtle = webCrypto();
  return subtle ? derive(solution, PROOF_LABEL, subtle) : deriveWithoutWebCrypto(solution, PROOF_LABEL);
}

async function derive(solution: Solution, info: Bytes, subtle: SubtleCrypto): Promise<Bytes> {
  const secret = await subtle.importKey("raw", solution.secret, "HKDF", false, ["deriveBits"]);
  const derivation = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info };
  return new Uint8Array(await subtle.deriveBits(derivation, secret, 8 * KEY_BYTES));
}

/** HKDF-SHA256 (RFC 5869) with an empty salt, for one block. */
async function deriveWithoutWebCrypto(solution: Solution, info: Bytes): Promise<Bytes> {
  const key = await hmac(new Uint8Array(KEY_BYTES), solution.secret);
  return hmac(key, new Uint8Array([...info, 1]));
}

async function hmac(key: Bytes, message: Bytes): Promise<Bytes> {
  const hasher = await createHMAC(createSHA256(), key);
  return new Uint8Array(hasher.init().update(message).digest("binary"));
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
