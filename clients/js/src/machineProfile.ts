/** Reference seconds: the time that evaluations take on one core of the reference machine. */

import type { Challenge } from "./records.js";

/** Evaluations per second of the Python package's default profile (`modeltoll.puzzle.machine_profile`), by KiB. */
export const SHA256_RATE = 2_012_000.0;
export const SQUARING_RATE = 89_845.0;
export const ARGON2ID_RATES: Readonly<Record<number, number>> = {
  64: 15560.0,
  128: 10470.0,
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
const MEASURED_ARGON2ID = Object.entries(ARGON2ID_RATES).map(([kib, rate]) => ({ kib: Number(kib), rate }));

/** Evaluations per second. A memory size that was not measured takes the nearest one's rate, scaled by the memory. */
export function evaluationRate(challenge: Challenge): number {
  if (challenge.puzzle === "timelock") return SQUARING_RATE;
  const { memoryKib } = challenge;
  if (memoryKib === 0) return SHA256_RATE;
  const distance = (kib: number): number => Math.abs(Math.log(kib / memoryKib));
  const nearest = MEASURED_ARGON2ID.reduce((best, size) => (distance(size.kib) < distance(best.kib) ? size : best));
  return (nearest.rate * nearest.kib) / memoryKib;
}

/** The mean number of evaluations, from the published bounds. */
export function expectedEvaluations(challenge: Challenge): number {
  const isHiddenCounter = challenge.puzzle === "argon2id" || challenge.puzzle === "sha256";
  return challenge.parts.reduce((sum, part) => sum + (isHiddenCounter ? (part.bound + 1) / 2 : part.bound), 0);
}

/** The mean time on one core of the reference machine, in seconds. */
export function expectedSeconds(challenge: Challenge): number {
  return expectedEvaluations(challenge) / evaluationRate(challenge);
}
