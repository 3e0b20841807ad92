/** Reference seconds: what an evaluation is worth on one core of the reference machine. */

import type { Challenge } from "./records.js";

/** Evaluations per second of the Python package's default profile (`modeltoll.pricing.reference`), by KiB. */
export const SHA256_RATE = 2_012_000.0;
export const SQUARING_RATE = 89_845.0;
export const ARGON2ID_RATES: Readonly<Record<number, number>> = {
  256: 5917.1,
  512: 3163.7,
  1024: 1625.1,
  2048: 785.6,
  4096: 382.5,
  8192: 192.3,
  16384: 98.43,
  32768: 43.83,
  65536: 19.23,
  131072: 9.156,
  262144: 3.976,
};

/** Evaluations per second. Between and beyond the measured rungs the nearest rung's is scaled by the memory. */
export function rateOf(challenge: Challenge): number {
  if (challenge.puzzle === "timelock") return SQUARING_RATE;
  const memory = challenge.memoryKib;
  if (memory === 0) return SHA256_RATE;
  const far = (kib: number): number => Math.abs(Math.log(kib / memory));
  const rung = Object.keys(ARGON2ID_RATES)
    .map(Number)
    .reduce((best, kib) => (far(kib) < far(best) ? kib : best));
  return (ARGON2ID_RATES[rung]! * rung) / memory;
}

/** The mean number of evaluations, as far as the published bounds tell. */
export function expectedEvaluations(challenge: Challenge): number {
  const hidden = challenge.puzzle === "argon2id" || challenge.puzzle === "sha256";
  return challenge.parts.reduce((sum, part) => sum + (hidden ? (part.bound + 1) / 2 : part.bound), 0);
}

/** The mean wait on one core of the reference machine, in seconds. */
export function expectedSeconds(challenge: Challenge): number {
  return expectedEvaluations(challenge) / rateOf(challenge);
}
