/** The values that pass between modules. */

export type PuzzleName = "argon2id" | "sha256" | "hashcash" | "timelock";
export type Mode = "sealed" | "redeem";
export type Bytes = Uint8Array<ArrayBuffer>;

/**
 * One independent part of a puzzle.
 *
 * Hidden counter: the secret n lies in [0, `bound`); `check` confirms F(`start` + n). Hashcash: `bound` is the expected
 * number of evaluations, no `check`. Time lock: `bound` is the number of squarings.
 */
export interface Part {
  readonly seed: Bytes;
  readonly bound: number;
  readonly check: Bytes | null;
  readonly start: number;
}

/** A puzzle as published. `memoryKib` belongs to argon2id, `modulus` (big-endian) to timelock. */
export interface Challenge {
  readonly puzzle: PuzzleName;
  readonly parts: readonly Part[];
  readonly memoryKib: number;
  readonly modulus: Bytes | null;
}

/** The toll in a 402: `cargo` is the sealed answer or the token. */
export interface Toll {
  readonly mode: Mode;
  readonly challenge: Challenge;
  readonly cargo: Bytes;
  readonly rows: number;
  readonly typicalSeconds: number;
  /** Whether it is an admission toll: its token holds the request, which the server handles once it is redeemed. */
  readonly admission: boolean;
  /** Where the token is redeemed, or the receipt of a seal returned (empty: it has none), relative to the request's URL. */
  readonly reference: string;
}

/** One counter per part, and the parts' secrets, concatenated (empty for hashcash). */
export interface Solution {
  readonly counters: readonly number[];
  readonly secret: Bytes;
}

/** An answer of the model server. */
export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: Bytes;
}

/** The content of a seal: `receipt` is opaque, and empty if the server settles nothing. */
export interface OpenedSeal {
  readonly answer: Answer;
  readonly receipt: Bytes;
}
